"""Who may come in: tokens given out and looked at, signed URLs, and the image references of task definitions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

from contracts.rpc.registry import IssueAttachToken, IssuePullToken, PullToken
from services.registry.decisions.names import (
    RepositoryId,
    locate,
    parse_reference,
    root_of,
    valid_repository,
)
from services.registry.decisions.tokens import (
    PEER_LIFE_S,
    PULL_LIFE_S,
    TOKEN_LIFE_S,
    URL_LIFE_S,
    USERNAME,
    Token,
    basic_password,
    layer_signature_holds,
    seal,
    sign_layer,
    unseal,
)
from services.registry.handlers import errors
from services.registry.handlers.policies import Asker, Keys, Policies
from services.shared.clock import Clock
from services.shared.policies.demands import Demand

DigestOf = Callable[[RepositoryId, str], Awaitable[str | None]]
"""The digest that a tag (or digest) of a repository names now; None for none."""

Admit = Callable[[IssuePullToken, RepositoryId, str | None], Awaitable[None]]
"""Raises unless the image of this digest may run."""

LAYERS_PATH = "/layers"
_KEPT = 256


class Access:
    """The signing key, and the hosts under which the registry is known."""

    def __init__(
        self,
        key: bytes,
        clock: Clock,
        policies: Policies,
        *,
        advertised: str,
        pull_host: str = "",
        own_hosts: str = "",
    ) -> None:
        self._key = key
        self._policies = policies
        self._clock = clock
        self._seen: dict[str, Token] = {}
        self._pull_host = pull_host
        self._own_hosts = frozenset(host.strip() for host in own_hosts.split(",") if host.strip())
        self.advertised = advertised

    @property
    def pull_host(self) -> str:
        """The host and port at which agents pull."""
        return self._pull_host or self.advertised

    @property
    def endpoint(self) -> str:
        """The registry's URL, for clients."""
        return f"http://{self.advertised}"

    def hosts(self) -> frozenset[str]:
        """Every host and port that means this registry."""
        port = self.advertised.rpartition(":")[2]
        local = {f"{name}:{port}" for name in ("localhost", "127.0.0.1")} if port.isdigit() else set()
        return frozenset({self.advertised, self.pull_host, *local}) | self._own_hosts

    def uri(self, repository: RepositoryId) -> str:
        """A repository's repositoryUri: what is pushed to and pulled from."""
        return f"{self.advertised}/{repository.path}"

    def issue(self, account: str, principal: str, session: str = "") -> tuple[str, float]:
        """A token for all that the bearer may do, and when it ends (epoch seconds). `session` is its access key, when
        it is a role's session."""
        expires_at = self._clock() + TOKEN_LIFE_S
        token = Token(account=account, principal=principal, expires_at=expires_at, session=session)
        return seal(token, self._key), expires_at

    def issue_to_peer(self, peer: str, principal: str, *, replicates: bool) -> tuple[str, float]:
        """A token for another installation, in the name of this principal, and how many seconds it holds."""
        account = principal.split(":")[4]
        ends = self._clock() + PEER_LIFE_S
        token = Token(account=account, principal=principal, expires_at=ends, peer=peer, replicates=replicates)
        return seal(token, self._key), PEER_LIFE_S

    def require(self, token: Token, action: str, repository: RepositoryId, keys: Keys) -> None:
        """Raises AccessDenied unless the bearer may do this now."""
        self._policies.require(_asker(token), Demand(action, repository.arn), repository, keys)

    def require_import(self, token: Token, repository: RepositoryId, keys: Keys) -> None:
        """Raises AccessDenied unless the bearer may have images fetched into this pull-through cache."""
        self._policies.require_import(_asker(token), repository, keys)

    def bearer(self, authorization: str | None) -> Token | None:
        """Who shows this Authorization header; None for nobody that is known."""
        if not authorization:
            return None
        token = self._seen.get(authorization)
        if token is None:
            password = basic_password(authorization)
            token = unseal(password, self._key, self._clock()) if password else None
            if token is None:
                return None
            if len(self._seen) >= _KEPT:
                self._seen.clear()
            self._seen[authorization] = token
        return token if token.expires_at > self._clock() else None

    def layer_url(self, repository: RepositoryId, digest: str) -> str:
        """A URL from which anybody who has it may fetch the layer for an hour."""
        expires = int(self._clock() + URL_LIFE_S)
        query = {
            "repository": repository.path,
            "expires": expires,
            "signature": sign_layer(repository, digest, expires, self._key),
        }
        return f"{self.endpoint}{LAYERS_PATH}/{digest}?{urlencode(query)}"

    def layer_of(self, path: str, digest: str, expires: str, signature: str) -> RepositoryId | None:
        """The repository of a layer whose URL was signed here and is not over; else None."""
        repository = locate("", path)
        if not valid_repository(repository.name):
            return None
        holds = layer_signature_holds(repository, digest, expires, signature, self._key, self._clock())
        return repository if holds else None

    async def issue_pull_token(self, request: IssuePullToken, digest_of: DigestOf, admit: Admit) -> PullToken:
        """How an agent pulls an image for a task of this account; `local=False` for images of other registries.

        Raises AccessDeniedException for an image of another account whose policies don't let this one pull it,
        InvalidParameterException for a reference that can't be one, and for one that is to run what `admit` raises. It
        is asked about the very digest that the token names: a tag that moves meanwhile changes nothing.
        """
        reference = parse_reference(request.image, self.hosts())
        if reference is None:
            return PullToken(local=False, image=request.image)
        repository = reference.repository
        if not valid_repository(repository.name):
            raise errors.invalid_parameter("image", f"'{request.image}' is not an image reference")
        token = Token(
            account=request.account,
            principal=root_of(request.account),
            expires_at=self._clock() + PULL_LIFE_S,
            only=repository.arn,
            quiet=not request.to_run,
        )
        for action in ("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"):
            self.require(token, action, repository, dict)
        where = f"{self.pull_host}/{repository.path}"
        digest = await digest_of(repository, reference.meant)
        if request.to_run:
            await admit(request, repository, digest)
        return PullToken(
            local=True,
            image=f"{where}{reference.suffix}",
            pinned=f"{where}@{digest}" if digest else "",
            username=USERNAME,
            password=seal(token, self._key),
            insecure=True,
        )

    async def issue_attach_token(self, request: IssueAttachToken, digest_of: DigestOf) -> PullToken:
        """How a service of the platform puts manifests that refer to an image of this account."""
        repository = RepositoryId(request.account, request.region, request.repository)
        token = Token(
            account=request.account,
            principal=root_of(request.account),
            expires_at=self._clock() + PULL_LIFE_S,
            only=repository.arn,
            quiet=True,
            attaches=request.digest,
        )
        where = f"{self.pull_host}/{repository.path}@{request.digest}"
        return PullToken(
            local=True,
            image=where,
            pinned=where if await digest_of(repository, request.digest) else "",
            username=USERNAME,
            password=seal(token, self._key),
            insecure=True,
        )


def _asker(token: Token) -> Asker:
    return Asker(token.account, token.principal, token.session)
