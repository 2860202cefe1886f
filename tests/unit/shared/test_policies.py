# ruff: noqa: E501  (a case a line)
"""IAM's evaluation: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.aws import application_autoscaling as aas
from contracts.aws import apprunner, cloudwatch, ec2, ecr, ecs, logs, servicediscovery, ssm
from services.shared.policies import (
    ALLOW,
    EXPLICIT_DENY,
    IMPLICIT_DENY,
    TRUST,
    MalformedPolicy,
    Principal,
    Question,
    decide,
    parse,
    trusts,
)
from services.shared.policies.demands import Place, demands

ARN = "arn:aws:ecs:us-east-1:000000000000:service/main/shop"
EC2 = "arn:aws:ec2:us-east-1:000000000000:"
SETS = "arn:aws:ecs:us-east-1:000000000000:task-set/main/shop/"
SHIFT = "arn:aws:ecs:us-east-1:000000000000:service-deployment/main/shop/7"
HERE = Place("000000000000", "us-east-1")


def document(*statements, version="2012-10-17"):
    return parse(json.dumps({"Version": version, "Statement": list(statements)}))


def statement(effect="Allow", **members):
    return {"Effect": effect, **({} if "NotAction" in members else {"Action": "*"}),
            **({} if "NotResource" in members else {"Resource": "*"}), **members}  # fmt: skip


def verdict(*statements, action="ecs:UpdateService", resource=ARN, context=None, version="2012-10-17"):
    lowered = {key.lower(): tuple(values) for key, values in (context or {}).items()}
    return decide([document(*statements, version=version)], Question(action, resource, lowered))


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ([], IMPLICIT_DENY),
        ([statement()], ALLOW),
        ([statement(), statement("Deny")], EXPLICIT_DENY),
        ([statement("Deny"), statement()], EXPLICIT_DENY),
        ([statement(), statement("Deny", Action="ecs:Delete*")], ALLOW),
        ([statement(Action="ecs:Update*")], ALLOW),
        ([statement(Action="ECS:updateservice")], ALLOW),
        ([statement(Action="ecs:UpdateServic")], IMPLICIT_DENY),
        ([statement(Action="ecs:?pdateService")], ALLOW),
        ([statement(NotAction="iam:*")], ALLOW),
        ([statement(NotAction=["iam:*", "ecs:*"])], IMPLICIT_DENY),
        ([statement(Resource="arn:aws:ecs:*:*:service/main/*")], ALLOW),
        ([statement(Resource="arn:aws:ecs:*:*:service/MAIN/*")], IMPLICIT_DENY),
        ([statement(Resource="arn:aws:ecs:us-east-1:*:service/other/*")], IMPLICIT_DENY),
        ([statement(NotResource="arn:aws:ecs:*:*:service/main/*")], IMPLICIT_DENY),
        ([statement(NotResource="arn:aws:ecs:*:*:service/other/*")], ALLOW),
    ],
)
def test_deny_beats_allow_and_nothing_is_allowed_by_default(statements, expected):
    found = verdict(*statements) if statements else decide([], Question("ecs:UpdateService", ARN, {}))
    assert found == expected


@pytest.mark.parametrize(
    ("condition", "context", "holds"),
    [
        ({"StringEquals": {"aws:RequestedRegion": ["eu-west-1", "us-east-1"]}}, {"aws:requestedregion": ["us-east-1"]}, True),
        ({"StringEquals": {"aws:RequestedRegion": "US-EAST-1"}}, {"aws:requestedregion": ["us-east-1"]}, False),
        ({"StringEqualsIgnoreCase": {"a:b": "X"}}, {"a:b": ["x"]}, True),
        ({"StringEquals": {"a:b": "x"}}, {}, False),
        ({"StringEqualsIfExists": {"a:b": "x"}}, {}, True),
        ({"StringEqualsIfExists": {"a:b": "x"}}, {"a:b": ["y"]}, False),
        ({"StringNotEquals": {"a:b": ["x", "y"]}}, {"a:b": ["z"]}, True),
        ({"StringNotEquals": {"a:b": ["x", "y"]}}, {"a:b": ["y"]}, False),
        ({"StringNotEquals": {"a:b": "x"}}, {}, True),
        ({"StringLike": {"a:b": "sh?p-*"}}, {"a:b": ["shop-1"]}, True),
        ({"StringNotLike": {"a:b": "sh?p-*"}}, {"a:b": ["shop-1"]}, False),
        ({"StringLike": {"a:b": "a${*}b"}}, {"a:b": ["a*b"]}, True),
        ({"StringLike": {"a:b": "a${*}b"}}, {"a:b": ["axb"]}, False),
        ({"ArnLike": {"ecs:cluster": "arn:aws:ecs:*:*:cluster/ma*"}}, {"ecs:cluster": ["arn:aws:ecs:r:1:cluster/main"]}, True),
        ({"ArnNotEquals": {"ecs:cluster": "arn:aws:ecs:*:*:cluster/x"}}, {"ecs:cluster": ["arn:aws:ecs:r:1:cluster/main"]}, True),
        ({"NumericLessThanEquals": {"a:n": "10"}}, {"a:n": ["10"]}, True),
        ({"NumericGreaterThan": {"a:n": 10}}, {"a:n": ["10"]}, False),
        ({"NumericEquals": {"a:n": "ten"}}, {"a:n": ["10"]}, False),
        ({"DateLessThan": {"aws:CurrentTime": "2030-01-01T00:00:00Z"}}, {"aws:currenttime": ["2029-12-31T23:59:59Z"]}, True),
        ({"DateGreaterThan": {"aws:EpochTime": "2030-01-01T00:00:00Z"}}, {"aws:epochtime": ["1700000000"]}, False),
        ({"Bool": {"aws:SecureTransport": False}}, {"aws:securetransport": ["false"]}, True),
        ({"Bool": {"aws:SecureTransport": "true"}}, {"aws:securetransport": ["false"]}, False),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws:sourceip": ["10.1.2.3"]}, True),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws:sourceip": ["11.1.2.3"]}, False),
        ({"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws:sourceip": ["11.1.2.3"]}, True),
        ({"Null": {"a:b": "true"}}, {}, True),
        ({"Null": {"a:b": "true"}}, {"a:b": ["x"]}, False),
        ({"Null": {"a:b": False}}, {"a:b": ["x"]}, True),
        ({"ForAllValues:StringEquals": {"aws:TagKeys": ["a", "b"]}}, {"aws:tagkeys": ["a", "b"]}, True),
        ({"ForAllValues:StringEquals": {"aws:TagKeys": ["a", "b"]}}, {"aws:tagkeys": ["a", "c"]}, False),
        ({"ForAllValues:StringEquals": {"aws:TagKeys": "a"}}, {}, True),
        ({"ForAnyValue:StringEquals": {"aws:TagKeys": ["a", "b"]}}, {"aws:tagkeys": ["c", "b"]}, True),
        ({"ForAnyValue:StringEquals": {"aws:TagKeys": "a"}}, {}, False),
        ({"ForAnyValue:StringNotEquals": {"aws:TagKeys": "a"}}, {"aws:tagkeys": ["a", "b"]}, True),
        ({"StringEquals": {"a:b": "x"}, "Bool": {"a:c": "true"}}, {"a:b": ["x"], "a:c": ["false"]}, False),
        ({"stringequals": {"A:B": "x"}}, {"a:b": ["x"]}, True),
    ],
)  # fmt: skip
def test_a_condition_holds_as_the_reference_says(condition, context, holds):
    assert verdict(statement(Condition=condition), context=context) == (ALLOW if holds else IMPLICIT_DENY)


@pytest.mark.parametrize(
    ("resource", "context", "version", "allowed"),
    [
        ("arn:aws:ecs:*:${aws:PrincipalAccount}:service/main/shop", {"aws:PrincipalAccount": ["000000000000"]}, "2012-10-17", True),
        ("arn:aws:ecs:*:*:service/${aws:PrincipalTag/team}/*", {"aws:PrincipalTag/team": ["main"]}, "2012-10-17", True),
        ("arn:aws:ecs:*:*:service/${aws:PrincipalTag/team}/*", {"aws:PrincipalTag/team": ["*"]}, "2012-10-17", False),
        ("arn:aws:ecs:*:*:service/${aws:username}/*", {}, "2012-10-17", False),
        ("arn:aws:ecs:*:*:service/${aws:username, 'main'}/*", {}, "2012-10-17", True),
        ("arn:aws:ecs:*:*:service/${aws:PrincipalTag/team}/*", {"aws:PrincipalTag/team": ["main"]}, "2008-10-17", False),
    ],
)  # fmt: skip
def test_a_variable_stands_for_its_value_and_never_for_a_wildcard(resource, context, version, allowed):
    found = verdict(statement(Resource=resource), context=context, version=version)
    assert found == (ALLOW if allowed else IMPLICIT_DENY)


effects = st.sampled_from(["Allow", "Deny"])
actions = st.sampled_from(["*", "ecs:*", "ecs:UpdateService", "ecs:Delete*", "iam:*"])
some_statements = st.lists(st.builds(lambda e, a: statement(e, Action=a), effects, actions), min_size=1, max_size=6)


@given(some_statements, st.randoms())
def test_the_order_of_statements_never_matters(statements, random):
    shuffled = list(statements)
    random.shuffle(shuffled)
    assert verdict(*shuffled) == verdict(*statements)


@given(some_statements)
def test_a_deny_can_be_added_but_never_taken_back_by_an_allow(statements):
    assert verdict(*statements, statement("Deny")) == EXPLICIT_DENY
    if verdict(*statements) == EXPLICIT_DENY:
        assert verdict(*statements, statement()) == EXPLICIT_DENY


@given(some_statements)
def test_one_document_with_all_statements_says_what_many_say(statements):
    question = Question("ecs:UpdateService", ARN, {})
    assert decide([document(s) for s in statements], question) == decide([document(*statements)], question)


@given(st.text(alphabet="ab*?", max_size=12), st.text(alphabet="ab", max_size=12))
def test_a_pattern_matches_as_a_shell_s_does(pattern, value):
    from fnmatch import fnmatchcase

    resource, name = f"arn:aws:ecs:r:1:x/{pattern}", f"arn:aws:ecs:r:1:x/{value}"
    assert (verdict(statement(Resource=resource), resource=name) == ALLOW) == fnmatchcase(value, pattern)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(["Version", "Statement", "Effect", "Action", "Resource", "Condition", "Principal"]), inner), max_leaves=12))  # fmt: skip
def test_whatever_is_no_policy_is_refused_and_nothing_else_happens(value):
    with pytest.raises(MalformedPolicy):
        parse(json.dumps({"Statement": [value]}))


@pytest.mark.parametrize(
    ("given_statement", "words"),
    [
        (statement(Principal="*"), "should not specify a principal"),
        (statement(Action="RunTask"), "prefaced by a vendor"),
        (statement(Resource="shop"), "must be in ARN format"),
        (statement(Condition={"StringIs": {"a:b": "c"}}), "Invalid Condition type"),
        (statement(Condition={"NullIfExists": {"a:b": "true"}}), "Invalid Condition type"),
        ({"Effect": "Allow", "Action": "*"}, "must contain resources"),
        (statement("Maybe"), "Syntax errors"),
        (statement(NotAction="*", Action="*"), "Syntax errors"),
    ],
)
def test_a_wrong_policy_is_refused_in_iam_s_words(given_statement, words):
    with pytest.raises(MalformedPolicy, match=words):
        document(given_statement)


def trust(principal, effect="Allow"):
    text = {
        "Version": "2012-10-17",
        "Statement": {"Effect": effect, "Principal": principal, "Action": "sts:AssumeRole"},
    }
    return parse(json.dumps(text), TRUST)


SESSION = Principal("000000000000", ("arn:aws:sts::000000000000:assumed-role/a/s", "arn:aws:iam::000000000000:role/a"))


@pytest.mark.parametrize(
    ("principal", "who", "expected"),
    [
        ({"AWS": "000000000000"}, SESSION, (ALLOW, False)),
        ({"AWS": "arn:aws:iam::000000000000:root"}, SESSION, (ALLOW, False)),
        ({"AWS": "arn:aws:iam::000000000000:role/a"}, SESSION, (ALLOW, True)),
        ({"AWS": "arn:aws:sts::000000000000:assumed-role/a/s"}, SESSION, (ALLOW, True)),
        ({"AWS": "arn:aws:iam::000000000000:role/b"}, SESSION, (IMPLICIT_DENY, False)),
        ({"AWS": "111111111111"}, SESSION, (IMPLICIT_DENY, False)),
        ("*", SESSION, (ALLOW, False)),
        ({"Service": "ecs-tasks.amazonaws.com"}, SESSION, (IMPLICIT_DENY, False)),
        ({"Service": ["ec2.amazonaws.com", "ecs-tasks.amazonaws.com"]}, Principal(service="ecs-tasks.amazonaws.com"), (ALLOW, True)),
        ({"Service": "ec2.amazonaws.com"}, Principal(service="ecs-tasks.amazonaws.com"), (IMPLICIT_DENY, False)),
        ("*", Principal(service="ecs-tasks.amazonaws.com"), (IMPLICIT_DENY, False)),
    ],
)  # fmt: skip
def test_a_trust_policy_names_accounts_roles_sessions_and_services(principal, who, expected):
    assert trusts(trust(principal), who, Question("sts:AssumeRole", "*", {})) == expected


@pytest.mark.parametrize(
    ("api", "operation", "request_", "expected"),
    [
        ("ecs", "UpdateService", ecs.UpdateServiceRequest(cluster="main", service="shop"), [("ecs:UpdateService", ARN)]),
        ("ecs", "CreateTaskSet", ecs.CreateTaskSetRequest(cluster="main", service="shop", task_definition="d"), [("ecs:CreateTaskSet", SETS + "*")]),
        ("ecs", "DeleteTaskSet", ecs.DeleteTaskSetRequest(cluster="main", service=ARN, task_set="ecs-svc/7"), [("ecs:DeleteTaskSet", SETS + "ecs-svc/7")]),
        ("ecs", "UpdateServicePrimaryTaskSet", ecs.UpdateServicePrimaryTaskSetRequest(cluster="main", service="shop", primary_task_set="ecs-svc/7"), [("ecs:UpdateServicePrimaryTaskSet", ARN)]),
        ("ecs", "ContinueServiceDeployment", ecs.ContinueServiceDeploymentRequest(service_deployment_arn=SHIFT, hook_id="h"), [("ecs:ContinueServiceDeployment", SHIFT)]),
        ("ecs", "DescribeServiceRevisions", ecs.DescribeServiceRevisionsRequest(service_revision_arns=[SHIFT]), [("ecs:DescribeServiceRevisions", SHIFT)]),
        ("ecs", "UpdateExpressGatewayService", ecs.UpdateExpressGatewayServiceRequest(service_arn=ARN), [("ecs:UpdateExpressGatewayService", ARN)]),
        (
            "ecs",
            "CreateExpressGatewayService",
            ecs.CreateExpressGatewayServiceRequest(cluster="main", service_name="shop", infrastructure_role_arn="i", execution_role_arn="e", task_role_arn="t"),
            [("ecs:CreateExpressGatewayService", ARN), *[("iam:PassRole", f"arn:aws:iam::000000000000:role/{name}") for name in "tei"]],
        ),
        ("ecs", "ListClusters", ecs.ListClustersRequest(), [("ecs:ListClusters", "*")]),
        ("ecs", "RunTask", ecs.RunTaskRequest(task_definition="shop:3"), [("ecs:RunTask", "arn:aws:ecs:us-east-1:000000000000:task-definition/shop:3")]),
        (
            "ecs",
            "RegisterTaskDefinition",
            ecs.RegisterTaskDefinitionRequest(family="shop", container_definitions=[], task_role_arn="arn:aws:iam::000000000000:role/r"),
            [("ecs:RegisterTaskDefinition", "arn:aws:ecs:us-east-1:000000000000:task-definition/shop:*"), ("iam:PassRole", "arn:aws:iam::000000000000:role/r")],
        ),
        ("ecr", "DescribeImages", ecr.DescribeImagesRequest(repository_name="shop"), [("ecr:DescribeImages", "arn:aws:ecr:us-east-1:000000000000:repository/shop")]),
        ("ecr", "GetAuthorizationToken", ecr.GetAuthorizationTokenRequest(), [("ecr:GetAuthorizationToken", "*")]),
        ("logs", "CreateLogGroup", logs.CreateLogGroupRequest(log_group_name="/x"), [("logs:CreateLogGroup", "arn:aws:logs:us-east-1:000000000000:log-group:/x:log-stream:")]),
        (
            "ssm",
            "CreateActivation",
            ssm.CreateActivationRequest(iam_role="service-role/anywhere"),
            [("ssm:CreateActivation", "*"), ("iam:PassRole", "arn:aws:iam::000000000000:role/service-role/anywhere")],
        ),
        ("ec2", "DescribeSubnets", ec2.DescribeSubnetsRequest(subnet_ids=["s"]), [("ec2:DescribeSubnets", "*")]),
        ("ec2", "DeleteTags", ec2.DeleteTagsRequest(resources=["sg-1", "sgr-1"]), [("ec2:DeleteTags", EC2 + "security-group/sg-1"), ("ec2:DeleteTags", EC2 + "security-group-rule/sgr-1")]),
        (
            "ec2",
            "CreateSecurityGroup",
            ec2.CreateSecurityGroupRequest(group_name="g", description="d", vpc_id="vpc-1", tag_specifications=[ec2.TagSpecification(resource_type="security-group", tags=[])]),
            [("ec2:CreateSecurityGroup", EC2 + "security-group/*"), ("ec2:CreateSecurityGroup", EC2 + "vpc/vpc-1"), ("ec2:CreateTags", EC2 + "security-group/*")],
        ),
        (
            "ssm",
            "GetParameters",
            ssm.GetParametersRequest(names=["/a/b", "c"]),
            [("ssm:GetParameters", f"arn:aws:ssm:us-east-1:000000000000:parameter/{n}") for n in ("a/b", "c")],
        ),
    ],
)  # fmt: skip
def test_an_operation_demands_its_action_on_what_the_request_names(api, operation, request_, expected):
    assert [(d.action, d.resource) for d in demands(api, operation, request_, HERE)] == expected


def test_who_gives_an_app_runner_service_its_roles_must_be_allowed_to_pass_them_to_app_runner():
    source = apprunner.SourceConfiguration(
        authentication_configuration=apprunner.AuthenticationConfiguration(access_role_arn="pull")
    )
    own = apprunner.InstanceConfiguration(instance_role_arn="run")
    request = apprunner.CreateServiceRequest(
        service_name="shop", source_configuration=source, instance_configuration=own
    )
    passed = [d for d in demands("apprunner", "CreateService", request, HERE) if d.action == "iam:PassRole"]
    assert [(d.resource, d.context["iam:passedtoservice"]) for d in passed] == [
        ("arn:aws:iam::000000000000:role/run", ("tasks.apprunner.amazonaws.com",)),
        ("arn:aws:iam::000000000000:role/pull", ("build.apprunner.amazonaws.com",)),
    ]


ROLE_ARN = "arn:aws:iam::000000000000:role/r"
SHOP_ARN = "arn:aws:apprunner:us-east-1:000000000000:service/shop/0123456789abcdef0123456789abcdef"
MAP = "arn:aws:servicediscovery:us-east-1:000000000000:"
ALARM = "arn:aws:cloudwatch:us-east-1:000000000000:alarm:"
CREATE_SHOP = apprunner.CreateServiceRequest(
    service_name="shop",
    source_configuration=apprunner.SourceConfiguration(
        authentication_configuration=apprunner.AuthenticationConfiguration(access_role_arn=ROLE_ARN)
    ),
    instance_configuration=apprunner.InstanceConfiguration(instance_role_arn=ROLE_ARN),
)
IN_ECS = {"service_namespace": "ecs", "resource_id": "service/main/shop"}


@pytest.mark.parametrize(
    ("api", "operation", "request_", "expected"),
    [
        ("apprunner", "DeleteService", apprunner.DeleteServiceRequest(service_arn=SHOP_ARN), [("apprunner:DeleteService", SHOP_ARN)]),
        ("apprunner", "ListServices", apprunner.ListServicesRequest(), [("apprunner:ListServices", "*")]),
        (
            "apprunner",
            "CreateService",
            CREATE_SHOP,
            [("apprunner:CreateService", "arn:aws:apprunner:us-east-1:000000000000:service/shop/*"), *[("iam:PassRole", ROLE_ARN)] * 2],
        ),
        (
            "application_autoscaling",
            "DeregisterScalableTarget",
            aas.DeregisterScalableTargetRequest(scalable_dimension="ecs:service:DesiredCount", **IN_ECS),
            [("application-autoscaling:DeregisterScalableTarget", "arn:aws:application-autoscaling:us-east-1:000000000000:scalable-target/*")],
        ),
        (
            "application_autoscaling",
            "DescribeScalingPolicies",
            aas.DescribeScalingPoliciesRequest(**IN_ECS),
            [("application-autoscaling:DescribeScalingPolicies", "*")],
        ),
        ("cloudwatch", "DeleteAlarms", cloudwatch.DeleteAlarmsInput(alarm_names=["a", "b"]), [("cloudwatch:DeleteAlarms", ALARM + n) for n in "ab"]),
        ("cloudwatch", "DescribeAlarms", cloudwatch.DescribeAlarmsInput(), [("cloudwatch:DescribeAlarms", ALARM + "*")]),
        ("cloudwatch", "ListMetrics", cloudwatch.ListMetricsInput(), [("cloudwatch:ListMetrics", "*")]),
        (
            "servicediscovery",
            "RegisterInstance",
            servicediscovery.RegisterInstanceRequest(service_id="srv-1", instance_id="i", attributes={}),
            [("servicediscovery:RegisterInstance", MAP + "service/srv-1")],
        ),
        ("servicediscovery", "DeleteNamespace", servicediscovery.DeleteNamespaceRequest(id="ns-1"), [("servicediscovery:DeleteNamespace", MAP + "namespace/ns-1")]),
        ("servicediscovery", "DeleteService", servicediscovery.DeleteServiceRequest(id="srv-1"), [("servicediscovery:DeleteService", MAP + "service/srv-1")]),
        (
            "servicediscovery",
            "CreateService",
            servicediscovery.CreateServiceRequest(name="shop", namespace_id="ns-1"),
            [("servicediscovery:CreateService", MAP + each) for each in ("namespace/ns-1", "service/*")],
        ),
        (
            "ecs",
            "UpdateTaskProtection",
            ecs.UpdateTaskProtectionRequest(cluster="main", tasks=["t"], protection_enabled=True),
            [("ecs:UpdateTaskProtection", "arn:aws:ecs:us-east-1:000000000000:task/main/t")],
        ),
        ("ecs", "CreateCluster", ecs.CreateClusterRequest(), [("ecs:CreateCluster", "arn:aws:ecs:us-east-1:000000000000:cluster/default")]),
        ("ecs", "CreateGateway", ecs.CreateGatewayRequest(name="g", infrastructure_role_arn="r", configuration=ecs.GatewayConfiguration(host_shared_alb=ecs.HostSharedAlbConfiguration())), [("ecs:CreateGateway", "arn:aws:ecs:us-east-1:000000000000:gateway/g"), ("iam:PassRole", "arn:aws:iam::000000000000:role/r")]),
        ("ecs", "DescribeGatewayRoute", ecs.DescribeGatewayRouteRequest(gateway_route_arn="arn:aws:ecs:us-east-1:000000000000:gateway-route/g/r"), [("ecs:DescribeGatewayRoute", "arn:aws:ecs:us-east-1:000000000000:gateway-route/g/r")]),
        ("ecs", "DeleteCapacityProvider", ecs.DeleteCapacityProviderRequest(capacity_provider="cp"), [("ecs:DeleteCapacityProvider", "arn:aws:ecs:us-east-1:000000000000:capacity-provider/cp")]),
        (
            "ecs",
            "DescribeCapacityProviders",
            ecs.DescribeCapacityProvidersRequest(capacity_providers=["cp"]),
            [("ecs:DescribeCapacityProviders", "arn:aws:ecs:us-east-1:000000000000:capacity-provider/cp")],
        ),
        ("ecs", "UpdateClusterSettings", ecs.UpdateClusterSettingsRequest(cluster="main", settings=[]), [("ecs:UpdateClusterSettings", "arn:aws:ecs:us-east-1:000000000000:cluster/main")]),
    ],
)  # fmt: skip
def test_the_newer_services_demand_their_actions_on_what_the_request_names_too(api, operation, request_, expected):
    assert [(d.action, d.resource) for d in demands(api, operation, request_, HERE)] == expected


ELSEWHERE = "eu-west-1:111111111111"


@pytest.mark.parametrize(
    ("api", "operation", "request_", "found"),
    [
        ("ecs", "DeleteService", ecs.DeleteServiceRequest(cluster="main", service=f"arn:aws:ecs:{ELSEWHERE}:service/dev/shop"), ARN),
        ("ecs", "DeleteService", ecs.DeleteServiceRequest(cluster=f"arn:aws:ecs:{ELSEWHERE}:cluster/main", service="x/shop"), ARN),
        ("ecs", "DeleteCluster", ecs.DeleteClusterRequest(cluster=f"arn:aws:ecs:{ELSEWHERE}:cluster/main"), "arn:aws:ecs:us-east-1:000000000000:cluster/main"),
        ("ecs", "RunTask", ecs.RunTaskRequest(task_definition=f"arn:aws:ecs:{ELSEWHERE}:task-definition/shop:3"), "arn:aws:ecs:us-east-1:000000000000:task-definition/shop:3"),
        ("ecs", "TagResource", ecs.TagResourceRequest(resource_arn=f"arn:aws:ecs:{ELSEWHERE}:service/main/shop", tags=[]), ARN),
        ("logs", "GetLogEvents", logs.GetLogEventsRequest(log_group_identifier=f"arn:aws:logs:{ELSEWHERE}:log-group:/x", log_stream_name="s"), "arn:aws:logs:us-east-1:000000000000:log-group:/x:log-stream:s"),
        ("ssm", "GetParameter", ssm.GetParameterRequest(name=f"arn:aws:ssm:{ELSEWHERE}:parameter/a/b"), "arn:aws:ssm:us-east-1:000000000000:parameter/a/b"),
        ("servicediscovery", "DeleteService", servicediscovery.DeleteServiceRequest(id=f"arn:aws:servicediscovery:{ELSEWHERE}:service/srv-1"), MAP + "service/srv-1"),
        ("servicediscovery", "TagResource", servicediscovery.TagResourceRequest(resource_arn=f"arn:aws:servicediscovery:{ELSEWHERE}:service/ns-1", tags=[]), MAP + "namespace/ns-1"),
    ],
)  # fmt: skip
def test_what_is_judged_is_what_the_operation_finds_whatever_an_arn_tells_of(api, operation, request_, found):
    assert [d.resource for d in demands(api, operation, request_, HERE)] == [found]


@pytest.mark.parametrize(
    ("api", "operation", "request_", "key", "value"),
    [
        ("ecs", "DeleteExpressGatewayService", ecs.DeleteExpressGatewayServiceRequest(service_arn=ARN), "ecs:cluster", "arn:aws:ecs:us-east-1:000000000000:cluster/main"),
        ("ecs", "RunTask", ecs.RunTaskRequest(task_definition="shop:3"), "ecs:cluster", "arn:aws:ecs:us-east-1:000000000000:cluster/default"),
        ("cloudwatch", "PutMetricData", cloudwatch.PutMetricDataInput(namespace="Shop"), "cloudwatch:namespace", "Shop"),
        ("application_autoscaling", "DescribeScalingPolicies", aas.DescribeScalingPoliciesRequest(**IN_ECS), "application-autoscaling:service-namespace", "ecs"),
        ("servicediscovery", "GetInstance", servicediscovery.GetInstanceRequest(service_id="srv-1", instance_id="i"), "servicediscovery:servicearn", MAP + "service/srv-1"),
        (
            "servicediscovery",
            "DiscoverInstances",
            servicediscovery.DiscoverInstancesRequest(namespace_name="local", service_name="shop"),
            "servicediscovery:namespacename",
            "local",
        ),
    ],
)  # fmt: skip
def test_an_operation_tells_the_condition_keys_of_its_service(api, operation, request_, key, value):
    assert [d.context.get(key) for d in demands(api, operation, request_, HERE)] == [(value,)]


def test_a_pattern_of_many_stars_takes_no_longer_than_others():
    resource = "arn:aws:ecs:r:1:x/" + "*a" * 60 + "*b"
    assert verdict(statement(Resource=resource), resource="arn:aws:ecs:r:1:x/" + "a" * 2000) == IMPLICIT_DENY
