"""SSM Parameter Store. A parameter is one record, every value sealed in it whatever its type; no value is logged."""

from __future__ import annotations

import re
from typing import Any

from contracts.aws import ssm
from contracts.records.identity import PARAMETER, Parameter, ParameterVersion
from services.identity.decisions.pages import page
from services.identity.decisions.parameters import (
    LIMITS,
    kept,
    name_problem,
    parameter_arn,
    pick,
    select,
)
from services.identity.handlers.vaults import Values
from services.shared.aws.context import RequestContext
from services.shared.aws.service import AwsService
from services.shared.clock import Clock
from services.shared.errors import AwsError
from services.shared.state import Store

DEFAULT_KEY = "alias/aws/ssm"


class Parameters(AwsService):
    """PutParameter to ListTagsForResource."""

    api = ssm.API

    def __init__(self, store: Store, values: Values, clock: Clock) -> None:
        self._store = store
        self._values = values
        self._clock = clock

    async def put_parameter(self, context: RequestContext, request: ssm.PutParameterRequest) -> ssm.PutParameterResult:
        """A parameter, or with Overwrite its next version."""
        _check(request)
        key = (context.account, context.region, request.name)

        def change(old: Parameter | None) -> Parameter:
            if old is not None and not request.overwrite:
                raise AwsError(
                    "ParameterAlreadyExists",
                    "The parameter already exists. To overwrite this value, set the overwrite option in the request to "
                    "true.",
                )
            if old is not None and request.tags:
                raise _invalid("tags and overwrite can't be used together")
            if old is None and not request.type:
                raise _invalid("A parameter type is required when you create a parameter.")
            version = self._version(context, request, old)
            if old is not None:
                return Parameter(
                    account=key[0], region=key[1], name=key[2], tags=old.tags, versions=kept([*old.versions, version])
                )
            tags = {tag.key: tag.value for tag in request.tags or []}
            return Parameter(account=key[0], region=key[1], name=key[2], tags=tags, versions=[version])

        parameter = await self._store.update(PARAMETER, key, change, "parameter.put.v1")
        assert parameter is not None
        latest = parameter.versions[-1]
        return ssm.PutParameterResult(version=latest.version, tier=latest.tier)

    def _version(
        self, context: RequestContext, request: ssm.PutParameterRequest, old: Parameter | None
    ) -> ParameterVersion:
        latest = old.versions[-1] if old is not None else None
        number = latest.version + 1 if latest is not None else 1
        kind = request.type or (latest.type if latest else "String")
        about = ("parameter", context.account, context.region, request.name, str(number))
        described = request.description if request.description is not None else latest.description if latest else ""
        return ParameterVersion(
            version=number,
            sealed=self._values.seal(request.value.encode(), *about),
            type=kind,
            modified_at=self._clock(),
            modified_by=context.principal_arn,
            description=described,
            key_id=(request.key_id or DEFAULT_KEY) if kind == "SecureString" else "",
            allowed_pattern=request.allowed_pattern or "",
            data_type=request.data_type or "text",
            tier="Advanced" if request.tier == "Advanced" else "Standard",
        )

    async def get_parameter(self, context: RequestContext, request: ssm.GetParameterRequest) -> ssm.GetParameterResult:
        """One, by name, `name:version` or ARN."""
        name, selector = select(request.name)
        parameter = self._values.parameter(context.account, context.region, name)
        if parameter is None:
            raise AwsError("ParameterNotFound", f"Parameter {request.name} not found.")
        version = pick(parameter, selector)
        if version is None:
            message = f"Systems Manager could not find version {selector} of {name}. Verify the version and try again."
            raise AwsError("ParameterVersionNotFound", message)
        return ssm.GetParameterResult(parameter=self._shown(parameter, version, request.with_decryption, selector))

    async def get_parameters(
        self, context: RequestContext, request: ssm.GetParametersRequest
    ) -> ssm.GetParametersResult:
        """Several; what is not there is named."""
        found: list[ssm.Parameter] = []
        missing: list[str] = []
        for reference in dict.fromkeys(request.names):
            name, selector = select(reference)
            parameter = self._values.parameter(context.account, context.region, name)
            version = pick(parameter, selector) if parameter is not None else None
            if parameter is None or version is None:
                missing.append(reference)
            else:
                found.append(self._shown(parameter, version, request.with_decryption, selector))
        return ssm.GetParametersResult(parameters=found, invalid_parameters=missing)

    async def get_parameters_by_path(
        self, context: RequestContext, request: ssm.GetParametersByPathRequest
    ) -> ssm.GetParametersByPathResult:
        """What is directly under a path, or with Recursive anywhere under it; ten a page."""
        if not request.path.startswith("/"):
            raise _invalid(f"The parameter doesn't meet the parameter name requirements: {request.path}")
        if request.parameter_filters:
            raise AwsError("InvalidFilterKey", "Filters of GetParametersByPath are not supported by Roadstead yet")
        under = request.path.rstrip("/") + "/"
        found = [
            p
            for p in self._all(context)
            if p.name.startswith(under) and (request.recursive or "/" not in p.name[len(under) :])
        ]
        taken, token = page(found, lambda p: p.name, request.next_token, request.max_results or 10, "InvalidNextToken")
        shown = [self._shown(p, p.versions[-1], request.with_decryption) for p in taken]
        return ssm.GetParametersByPathResult(parameters=shown, next_token=token)

    async def describe_parameters(
        self, context: RequestContext, request: ssm.DescribeParametersRequest
    ) -> ssm.DescribeParametersResult:
        """All but the values; filtered by name, type or path."""
        filters = [(f.key, f.option or "", f.values or []) for f in request.parameter_filters or []]
        filters += [(f.key, "", f.values) for f in request.filters or []]
        found = [p for p in self._all(context) if all(_passes(p, *one) for one in filters)]
        taken, token = page(found, lambda p: p.name, request.next_token, request.max_results or 50, "InvalidNextToken")
        return ssm.DescribeParametersResult(parameters=[_metadata(p) for p in taken], next_token=token)

    async def delete_parameter(
        self, context: RequestContext, request: ssm.DeleteParameterRequest
    ) -> ssm.DeleteParameterResult:
        """With all its versions."""
        if not await self._delete(context, request.name):
            raise AwsError("ParameterNotFound", f"Parameter {request.name} not found.")
        return ssm.DeleteParameterResult()

    async def delete_parameters(
        self, context: RequestContext, request: ssm.DeleteParametersRequest
    ) -> ssm.DeleteParametersResult:
        """Several; what is not there is named."""
        gone = {name: await self._delete(context, name) for name in dict.fromkeys(request.names)}
        return ssm.DeleteParametersResult(
            deleted_parameters=[name for name, was in gone.items() if was],
            invalid_parameters=[name for name, was in gone.items() if not was],
        )

    async def add_tags_to_resource(
        self, context: RequestContext, request: ssm.AddTagsToResourceRequest
    ) -> ssm.AddTagsToResourceResult:
        """Add tags, or give them other values."""
        given = {tag.key: tag.value for tag in request.tags}
        await self._retag(context, request, lambda tags: {**tags, **given})
        return ssm.AddTagsToResourceResult()

    async def remove_tags_from_resource(
        self, context: RequestContext, request: ssm.RemoveTagsFromResourceRequest
    ) -> ssm.RemoveTagsFromResourceResult:
        """Take tags away."""
        gone = set(request.tag_keys)
        await self._retag(context, request, lambda tags: {k: v for k, v in tags.items() if k not in gone})
        return ssm.RemoveTagsFromResourceResult()

    async def list_tags_for_resource(
        self, context: RequestContext, request: ssm.ListTagsForResourceRequest
    ) -> ssm.ListTagsForResourceResult:
        """Its tags."""
        parameter = self._tagged(context, request)
        return ssm.ListTagsForResourceResult(tag_list=[ssm.Tag(key=k, value=v) for k, v in parameter.tags.items()])

    async def _retag(self, context: RequestContext, request: Any, change: Any) -> None:
        key = PARAMETER.key_of(self._tagged(context, request))

        def retagged(old: Parameter | None) -> Parameter | None:
            if old is None:
                return None
            return Parameter(
                account=old.account, region=old.region, name=old.name, versions=old.versions, tags=change(old.tags)
            )

        await self._store.update(PARAMETER, key, retagged, "parameter.tagged.v1")

    def _tagged(self, context: RequestContext, request: Any) -> Parameter:
        if request.resource_type != "Parameter":
            raise AwsError("InvalidResourceType", f"{request.resource_type} can't be tagged in Roadstead")
        found = self._store.table(PARAMETER).record(context.account, context.region, request.resource_id)
        if found is None:
            raise AwsError("InvalidResourceId", f"There is no parameter {request.resource_id}")
        return found

    def _all(self, context: RequestContext) -> list[Parameter]:
        return self._store.table(PARAMETER).records(context.account, context.region)

    async def _delete(self, context: RequestContext, name: str) -> bool:
        parameter = self._values.parameter(context.account, context.region, name)
        if parameter is None:
            return False
        await self._store.delete(PARAMETER, PARAMETER.key_of(parameter), "parameter.deleted.v1")
        return True

    def _shown(
        self, parameter: Parameter, version: ParameterVersion, decrypt: bool | None, selector: str = ""
    ) -> ssm.Parameter:
        # A SecureString that nobody asked to decrypt is shown as it is stored.
        secure = version.type == "SecureString" and not decrypt
        return ssm.Parameter(
            name=parameter.name,
            type=version.type,
            value=version.sealed if secure else self._values.parameter_value(parameter, version),
            version=version.version,
            selector=f":{selector}" if selector else None,
            last_modified_date=version.modified_at,
            arn=parameter_arn(parameter.account, parameter.region, parameter.name),
            data_type=version.data_type,
        )


def _check(request: ssm.PutParameterRequest) -> None:
    """What the model can't say. Raises ValidationException and the like."""
    problem = name_problem(request.name)
    if problem:
        raise _invalid(problem)
    if request.policies:
        raise _invalid("Parameter policies are not supported by Roadstead yet")
    limit = LIMITS[request.tier or "Standard"]
    if len(request.value.encode()) > limit:
        raise _invalid(
            f"{request.tier or 'Standard'} tier parameters support a maximum parameter value of {limit} bytes."
        )
    if request.allowed_pattern:
        try:
            fits = re.fullmatch(request.allowed_pattern, request.value)
        except re.error:
            raise AwsError("InvalidAllowedPatternException", "The pattern is no regular expression") from None
        if fits is None:
            message = f"Parameter value, cannot be validated against allowedPattern: {request.allowed_pattern}"
            raise AwsError("ParameterPatternMismatchException", message)


def _metadata(parameter: Parameter) -> ssm.ParameterMetadata:
    latest = parameter.versions[-1]
    return ssm.ParameterMetadata(
        name=parameter.name,
        arn=parameter_arn(parameter.account, parameter.region, parameter.name),
        type=latest.type,
        key_id=latest.key_id or None,
        last_modified_date=latest.modified_at,
        last_modified_user=latest.modified_by,
        description=latest.description or None,
        allowed_pattern=latest.allowed_pattern or None,
        version=latest.version,
        tier=latest.tier,
        data_type=latest.data_type,
        policies=[],
    )


def _passes(parameter: Parameter, key: str, option: str, values: list[str]) -> bool:
    latest = parameter.versions[-1]
    if key == "Name":
        if option == "Contains":
            return any(v in parameter.name for v in values)
        begins = option in ("", "BeginsWith")
        return any(parameter.name.startswith(v) if begins else parameter.name == v for v in values)
    if key == "Type":
        return latest.type in values
    if key == "Tier":
        return latest.tier in values
    if key == "Path":
        one_level = option == "OneLevel"
        below = [parameter.name.removeprefix(v.rstrip("/") + "/") for v in values]
        return any(rest != parameter.name and not (one_level and "/" in rest) for rest in below)
    raise AwsError("InvalidFilterKey", f"The filter {key} is not supported by Roadstead yet")


def _invalid(message: str) -> AwsError:
    return AwsError("ValidationException", message)
