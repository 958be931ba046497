"""Where sources go on after a restart, and which of them play something else than before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import orjson

from connectors.base import Resume
from pipeline.messages import Anchor
from pipeline.state import Store

Key = tuple[str, str]


class Places:
    """Positions of the durable state, as sources resume from them.

    A position within other recordings means nothing: a file that was exchanged in the configuration would be played
    from the middle or not at all. A source with other contents begins a new stream.

    Args:
        store: the durable state.
        sources: what is played, where they say it (``contents``).
    """

    def __init__(self, store: Store, sources: Iterable[object]) -> None:
        self._store = store
        self._contents: dict[Key, str] = {}
        for source in sources:
            told: Mapping[Key, str] = getattr(source, "contents", dict)()
            self._contents |= told
        self._since: dict[Key, int] = {}

    def begin(self) -> dict[Key, Resume]:
        """At the start of a run; remembers from which epoch on a stream has its contents."""
        found = {key: Resume(p.epoch, p.anchor, p.n) for key, p in self._store.positions().items()}
        for key, digest in self._contents.items():
            note = "contents " + "/".join(key)
            known = self._store.meta(note)
            before, since = orjson.loads(known) if known is not None else ("" if key in found else digest, 0)
            epoch = found[key].epoch if key in found else since
            if before != digest or epoch > since:  # a device, or another process, has gone on under this name
                since = max(epoch, since) + 1
            if since > epoch:
                found[key] = Resume(since, Anchor(0, 0), 0, fresh=True)
            self._since[key] = since
            self._store.put_meta(note, orjson.dumps([digest, since]).decode())
        return found

    def now(self) -> dict[Key, Resume]:
        """During a run; without those of streams that have begun anew and not come to be durable."""
        found = self._store.positions()
        return {k: Resume(p.epoch, p.anchor, p.n) for k, p in found.items() if p.epoch >= self._since.get(k, 0)}
