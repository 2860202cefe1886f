"""ECR: the account's settings."""

from __future__ import annotations

from contracts.aws import ecr
from services.registry.api.base import EcrOperations
from services.registry.decisions.account_settings import BadSetting, check_setting, value_of
from services.registry.handlers import errors
from services.shared.aws.context import RequestContext


class AccountSettingOperations(EcrOperations):
    """PutAccountSetting, GetAccountSetting."""

    async def put_account_setting(
        self, context: RequestContext, request: ecr.PutAccountSettingRequest
    ) -> ecr.PutAccountSettingResponse:
        """Set one; it holds from now on."""
        name, value = request.name, request.value
        try:
            check_setting(name, value)
        except BadSetting as error:
            raise errors.invalid_parameter(error.member, str(error)) from None
        await self._settings.set_account_setting(context.account, context.region, name, value)
        return ecr.PutAccountSettingResponse(name=name, value=value)

    async def get_account_setting(
        self, context: RequestContext, request: ecr.GetAccountSettingRequest
    ) -> ecr.GetAccountSettingResponse:
        """The value that holds, set or not."""
        settings = self._settings.get(context.account, context.region).account_settings
        try:
            return ecr.GetAccountSettingResponse(name=request.name, value=value_of(settings, request.name))
        except BadSetting as error:
            raise errors.invalid_parameter(error.member, str(error)) from None
