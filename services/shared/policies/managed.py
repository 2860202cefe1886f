"""AWS' own managed policies that task roles commonly have, as far as their content is known for sure."""

from __future__ import annotations

import json


def _document(*actions: str) -> str:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


_PULL = ("ecr:GetAuthorizationToken", "ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer")

#: ARN -> document. An ARN under `arn:aws:iam::aws:policy/` that is not here does not exist here.
AWS_MANAGED: dict[str, str] = {
    "arn:aws:iam::aws:policy/AdministratorAccess": _document("*"),
    "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy": _document(
        *_PULL, "ecr:BatchGetImage", "logs:CreateLogStream", "logs:PutLogEvents"
    ),
    "arn:aws:iam::aws:policy/AmazonSSMReadOnlyAccess": _document("ssm:Describe*", "ssm:Get*", "ssm:List*"),
    "arn:aws:iam::aws:policy/CloudWatchLogsFullAccess": _document("logs:*", "cloudwatch:GenerateQuery"),
}
