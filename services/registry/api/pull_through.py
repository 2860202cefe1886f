"""ECR: rules of pull-through caches."""

from __future__ import annotations

from msgspec.structs import replace

from contracts.aws import ecr
from contracts.records.registry import PULL_THROUGH_RULE, PullThroughRule
from services.registry.api.base import EcrOperations
from services.registry.decisions.names import place_of
from services.registry.decisions.pages import BadToken, page
from services.registry.decisions.upstream import ROOT, WELL_KNOWN, Source, valid_host
from services.registry.handlers import errors
from services.registry.handlers.pull_through import source_of
from services.registry.handlers.roles import PULL_THROUGH
from services.registry.ports import LoginFailed, UpstreamFailed
from services.shared.aws.context import RequestContext
from services.shared.errors import AccessDenied, AwsError
from services.shared.policies.demands import Demand

PAGE = 100


class PullThroughOperations(EcrOperations):
    """CreatePullThroughCacheRule and what goes with it."""

    async def create_pull_through_cache_rule(
        self, context: RequestContext, request: ecr.CreatePullThroughCacheRuleRequest
    ) -> ecr.CreatePullThroughCacheRuleResponse:
        """Make a prefix a cache of another registry."""
        account = self._account(context, request.registry_id)
        host = request.upstream_registry_url.removeprefix("https://").rstrip("/")
        if not valid_host(host):
            raise errors.unsupported_upstream(request.upstream_registry_url)
        self._check_ecr(context, host, request)
        await self._check_login(context, request.credential_arn)
        now = self._clock()
        rule = PullThroughRule(
            account=account,
            region=context.region,
            prefix=request.ecr_repository_prefix,
            upstream=host,
            upstream_name=request.upstream_registry or ("ecr" if place_of(host) else WELL_KNOWN.get(host, "")),
            upstream_prefix=request.upstream_repository_prefix or ROOT,
            credential_arn=request.credential_arn or "",
            role_arn=request.custom_role_arn or "",
            created_at=now,
            updated_at=now,
        )
        await self._prefixed.create(PULL_THROUGH_RULE, rule)
        shown = _shown(rule)
        return ecr.CreatePullThroughCacheRuleResponse(
            ecr_repository_prefix=shown.ecr_repository_prefix,
            upstream_registry_url=shown.upstream_registry_url,
            created_at=shown.created_at,
            registry_id=account,
            upstream_registry=shown.upstream_registry,
            credential_arn=shown.credential_arn,
            custom_role_arn=shown.custom_role_arn,
            upstream_repository_prefix=shown.upstream_repository_prefix,
        )

    async def describe_pull_through_cache_rules(
        self, context: RequestContext, request: ecr.DescribePullThroughCacheRulesRequest
    ) -> ecr.DescribePullThroughCacheRulesResponse:
        """Rules by prefix, or all in pages."""
        where = (self._account(context, request.registry_id), context.region)
        if request.ecr_repository_prefixes:
            wanted = dict.fromkeys(request.ecr_repository_prefixes)
            found = [self._prefixed.get(PULL_THROUGH_RULE, *where, prefix) for prefix in wanted]
            return ecr.DescribePullThroughCacheRulesResponse(pull_through_cache_rules=[_shown(r) for r in found])
        try:
            rules, token = page(
                self._prefixed.all(PULL_THROUGH_RULE, *where),
                lambda rule: (rule.prefix,),
                request.max_results or PAGE,
                request.next_token,
            )
        except BadToken as error:
            raise errors.invalid_parameter("nextToken", str(error)) from None
        return ecr.DescribePullThroughCacheRulesResponse(
            pull_through_cache_rules=[_shown(rule) for rule in rules], next_token=token
        )

    async def update_pull_through_cache_rule(
        self, context: RequestContext, request: ecr.UpdatePullThroughCacheRuleRequest
    ) -> ecr.UpdatePullThroughCacheRuleResponse:
        """Set another login or role, which is all that can be changed of a rule."""
        account, now = self._account(context, request.registry_id), self._clock()
        known = self._prefixed.get(PULL_THROUGH_RULE, account, context.region, request.ecr_repository_prefix)
        self._check_ecr(context, known.upstream, request, known.role_arn)
        await self._check_login(context, request.credential_arn)
        rule = await self._prefixed.change(
            PULL_THROUGH_RULE,
            account,
            context.region,
            request.ecr_repository_prefix,
            lambda old: replace(
                old,
                updated_at=now,
                credential_arn=request.credential_arn or old.credential_arn,
                role_arn=request.custom_role_arn or old.role_arn,
            ),
        )
        return ecr.UpdatePullThroughCacheRuleResponse(
            ecr_repository_prefix=rule.prefix,
            registry_id=account,
            updated_at=now,
            credential_arn=rule.credential_arn or None,
            custom_role_arn=rule.role_arn or None,
            upstream_repository_prefix=rule.upstream_prefix,
        )

    async def delete_pull_through_cache_rule(
        self, context: RequestContext, request: ecr.DeletePullThroughCacheRuleRequest
    ) -> ecr.DeletePullThroughCacheRuleResponse:
        """Drop a rule; what was cached stays."""
        account = self._account(context, request.registry_id)
        rule = await self._prefixed.delete(PULL_THROUGH_RULE, account, context.region, request.ecr_repository_prefix)
        return ecr.DeletePullThroughCacheRuleResponse(
            ecr_repository_prefix=rule.prefix,
            upstream_registry_url=rule.upstream,
            created_at=rule.created_at,
            registry_id=account,
            credential_arn=rule.credential_arn or None,
            custom_role_arn=rule.role_arn or None,
            upstream_repository_prefix=rule.upstream_prefix,
        )

    async def validate_pull_through_cache_rule(
        self, context: RequestContext, request: ecr.ValidatePullThroughCacheRuleRequest
    ) -> ecr.ValidatePullThroughCacheRuleResponse:
        """Read the login and ask the upstream now, or say what is in the way."""
        account, failure = self._account(context, request.registry_id), None
        rule = self._prefixed.get(PULL_THROUGH_RULE, account, context.region, request.ecr_repository_prefix)
        try:
            await self._upstream.check(source_of(rule))
        except UpstreamFailed as error:
            failure = str(error)
        return ecr.ValidatePullThroughCacheRuleResponse(
            ecr_repository_prefix=rule.prefix,
            registry_id=account,
            upstream_registry_url=rule.upstream,
            credential_arn=rule.credential_arn or None,
            custom_role_arn=rule.role_arn or None,
            upstream_repository_prefix=rule.upstream_prefix,
            is_valid=failure is None,
            failure=failure,
        )

    def _check_ecr(
        self,
        context: RequestContext,
        host: str,
        request: ecr.CreatePullThroughCacheRuleRequest | ecr.UpdatePullThroughCacheRuleRequest,
        known: str = "",
    ) -> None:
        """Another registry of ECR is asked in a role, which that of the same account does without; it has no secret."""
        place = place_of(host)
        if place is None:
            if request.custom_role_arn is not None:
                raise errors.invalid_parameter("customRoleArn", "a role is for upstreams of ECR")
            return
        if place == (context.account, context.region):
            raise errors.invalid_parameter("upstreamRegistryUrl", "a registry can't be its own upstream")
        if request.credential_arn is not None:
            raise errors.invalid_parameter("credentialArn", "an upstream of ECR takes a role, and no secret")
        if place[0] != context.account and not (request.custom_role_arn or known):
            raise errors.invalid_parameter(
                "customRoleArn", "the registry of another account takes a role to be asked in"
            )
        self._check_role(context, request.custom_role_arn, PULL_THROUGH)

    async def _check_login(self, context: RequestContext, credential: str | None) -> None:
        """A secret of the rule's own account and region, that is there and that who asks may read: whoever names the
        upstream gets to know what is in it."""
        if credential is None:
            return
        place = credential.split(":")
        if (place[3], place[4]) != (context.region, context.account):
            raise errors.invalid_parameter("credentialArn", "the secret must be of the rule's account and region")
        try:
            self._policies.require_of(context, Demand("secretsmanager:GetSecretValue", credential))
            await self._upstream.login(Source("", credential))
        except AccessDenied as denied:
            raise AwsError("UnableToAccessSecretException", denied.message) from None
        except LoginFailed as failed:
            if failed.code:
                raise AwsError(failed.code, str(failed)) from None


def _shown(rule: PullThroughRule) -> ecr.PullThroughCacheRule:
    return ecr.PullThroughCacheRule(
        ecr_repository_prefix=rule.prefix,
        upstream_registry_url=rule.upstream,
        created_at=rule.created_at,
        registry_id=rule.account,
        upstream_repository_prefix=rule.upstream_prefix,
        upstream_registry=rule.upstream_name or None,  # type: ignore[arg-type]
        updated_at=rule.updated_at,
        credential_arn=rule.credential_arn or None,
        custom_role_arn=rule.role_arn or None,
    )
