"""Account settings.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_PutAccountSetting.html
"""

from __future__ import annotations

from contracts.aws import ecs
from contracts.records.scheduler import ACCOUNT_SETTING, AccountSetting
from services.scheduler.adapters import World
from services.scheduler.api.base import EcsBase
from services.scheduler.decisions.pages import page
from services.scheduler.decisions.settings import DEFAULTS, check_setting, effective
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

LARGEST_PAGE = 10


def setting_of(world: World, context: RequestContext, principal: str, name: str) -> str | None:
    """What holds for a principal."""
    table = world.store.table(ACCOUNT_SETTING)
    where = (context.account, context.region)
    own, default = table.record(*where, principal, name), table.record(*where, "", name)
    return effective(name, own.value if own is not None else None, default.value if default is not None else None)


class AccountSettings(EcsBase):
    """PutAccountSetting and its like."""

    async def put_account_setting(
        self, context: RequestContext, request: ecs.PutAccountSettingRequest
    ) -> ecs.PutAccountSettingResponse:
        """Set it for one principal, the caller unless another is named."""
        principal = request.principal_arn or context.principal_arn
        return ecs.PutAccountSettingResponse(
            setting=await self._put_setting(context, principal, request.name, request.value)
        )

    async def put_account_setting_default(
        self, context: RequestContext, request: ecs.PutAccountSettingDefaultRequest
    ) -> ecs.PutAccountSettingDefaultResponse:
        """Set it for all principals of the account that have none of their own."""
        setting = await self._put_setting(context, "", request.name, request.value)
        return ecs.PutAccountSettingDefaultResponse(setting=setting)

    async def _put_setting(self, context: RequestContext, principal: str, name: str, value: str) -> ecs.Setting:
        self.world.require_connection()
        record = AccountSetting(
            account=context.account,
            region=context.region,
            principal=principal,
            name=name,
            value=check_setting(name, value),
        )
        key = ACCOUNT_SETTING.key_of(record)
        await self.world.store.update(ACCOUNT_SETTING, key, lambda _: record, "account_setting.put.v1")
        return _setting(context, principal, name, record.value)

    async def delete_account_setting(
        self, context: RequestContext, request: ecs.DeleteAccountSettingRequest
    ) -> ecs.DeleteAccountSettingResponse:
        """Forget a principal's own setting; the default holds again."""
        self.world.require_connection()
        principal = request.principal_arn or context.principal_arn
        key = (context.account, context.region, principal, request.name)
        known = self.world.store.table(ACCOUNT_SETTING).record(*key)
        if known is None:
            raise AwsError("InvalidParameterException", "The account setting does not exist.")
        await self.world.store.delete(ACCOUNT_SETTING, key, "account_setting.deleted.v1")
        return ecs.DeleteAccountSettingResponse(setting=_setting(context, principal, known.name, known.value))

    async def list_account_settings(
        self, context: RequestContext, request: ecs.ListAccountSettingsRequest
    ) -> ecs.ListAccountSettingsResponse:
        """The settings of a principal, its own ones, or with effectiveSettings what holds for it."""
        self.world.require_connection()
        principal = request.principal_arn or context.principal_arn
        if request.value is not None and request.name is None:
            raise AwsError("InvalidParameterException", "name must be specified with value.")
        found: dict[str, ecs.Setting] = {}
        for name in DEFAULTS:
            own = self.world.store.table(ACCOUNT_SETTING).record(context.account, context.region, principal, name)
            value = own.value if own is not None else None
            if request.effective_settings:
                value = setting_of(self.world, context, principal, name)
            if value is not None and request.name in (None, name) and request.value in (None, value):
                found[name] = _setting(context, principal, name, value)
        shown, token = page(sorted(found), request.next_token, request.max_results, largest=LARGEST_PAGE)
        return ecs.ListAccountSettingsResponse(settings=[found[name] for name in shown], next_token=token)


def _setting(context: RequestContext, principal: str, name: str, value: str) -> ecs.Setting:
    whose = principal or f"arn:aws:iam::{context.account}:root"
    return ecs.Setting(name=name, value=value, principal_arn=whose, type="user")  # type: ignore[arg-type]
