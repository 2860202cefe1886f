"""What is asked of images all the time, found without looking at all of them: the tags of an image, and the indexes
that name a manifest."""

from __future__ import annotations

from contracts.kinds import Key
from contracts.records.registry import IMAGE, IMAGE_TAG
from services.shared.state import Change, Store

_Groups = dict[Key, dict[str, set[str]]]


class ImageIndex:
    """Kept up to date by the store. Keys are (account, region, repository)."""

    def __init__(self, store: Store) -> None:
        self._tags: _Groups = {}
        self._parents: _Groups = {}
        for kind in (IMAGE, IMAGE_TAG):
            for entry in store.table(kind).entries():
                self._heard(Change(kind, kind.key_of(entry.record), None, entry))
        store.listen(self._heard)

    def _heard(self, change: Change) -> None:
        where, last = change.key[:3], change.key[-1]
        if change.kind is IMAGE_TAG:
            if change.old is not None:
                _take(self._tags, where, change.old.record.digest, last)
            if change.new is not None:
                _put(self._tags, where, change.new.record.digest, last)
        elif change.kind is IMAGE:
            for child in change.old.record.manifests if change.old is not None else ():
                _take(self._parents, where, child.digest, last)
            for child in change.new.record.manifests if change.new is not None else ():
                _put(self._parents, where, child.digest, last)

    def tags_of(self, where: Key, digest: str) -> list[str]:
        """The tags that name a digest, sorted; whether there is such an image or not."""
        return sorted(self._tags.get(where, {}).get(digest, ()))

    def tags(self, where: Key) -> dict[str, set[str]]:
        """The tags by digest. Not to be changed."""
        return self._tags.get(where, {})

    def parents_of(self, where: Key, digest: str) -> list[str]:
        """The digests of the indexes that name a manifest, sorted."""
        return sorted(self._parents.get(where, {}).get(digest, ()))


def _put(groups: _Groups, where: Key, name: str, member: str) -> None:
    groups.setdefault(where, {}).setdefault(name, set()).add(member)


def _take(groups: _Groups, where: Key, name: str, member: str) -> None:
    group = groups.get(where, {})
    members = group.get(name)
    if members is None:
        return
    members.discard(member)
    if not members:
        del group[name]
        if not group:
            groups.pop(where, None)
