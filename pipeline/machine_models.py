"""The models of one machine: what the configuration names, what decisions put in force, and whether it fits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.schema import Head, Model
from models.impact import pooling
from operators.mel import PAPER
from pipeline.errors import BadInput, ConfigError
from pipeline.lineup import LOGMEL, Lineup, Standing, Standings, standing_of
from pipeline.messages import Decision, Float32
from pipeline.models_pool import Pool
from pipeline.results import canonical
from pipeline.shelf import Shelf

if TYPE_CHECKING:
    from models.packages import Card

ABSTAIN = 0.6
"""Probability below which a head's answer is `unknown`, where neither configuration nor card say otherwise."""
ACTIONS = ("promote", "rollback", "shadow")


class Encoder:
    """How a lane makes embeddings with one encoder.

    Attributes:
        digest: of the package, or `LOGMEL`.
        model: name and version, for people.
        settings: hash of package, features and pooling.
        width: numbers in an embedding.
    """

    def __init__(self, digest: str, how: str | None, card: Card | None) -> None:
        self.digest = digest
        self._card = card
        if card is None:
            self.how, self.model, self.width = "", LOGMEL, PAPER.bands
        else:
            self.how, self.model = how or card.pooling, f"{card.name} {card.version}"
            self.width = self._width(card)
        said = {"encoder": digest, "pooling": self.how, "features": PAPER.hash}
        self.settings = hashlib.sha256(canonical(said)).hexdigest()[:16]

    def _width(self, card: Card) -> int:
        if card.kind != "encoder" or card.grid is None:
            raise BadInput(
                "kind", f"'{card.name}' {card.version} is of kind {card.kind}, or without tokens: no encoder"
            )
        card.takes(PAPER)
        if card.input.shape != (1, PAPER.bands, PAPER.frames):
            raise BadInput("shape", f"encoder '{card.name}' reads rows of shape {card.input.shape}, not one image")
        return pooling.width(self.how, card.grid, card.outputs[0].shape[1], PAPER.bands, card.cls)

    def vector(self, image: Float32, tokens: Float32 | None) -> Float32:
        """The embedding (width,) of an image (bands, frames) and of what the encoder made of it (tokens, d)."""
        if self._card is None:
            mean: Float32 = pooling.time_mean(image[None])[0]
            return mean
        assert self._card.grid is not None
        assert tokens is not None
        rows = pooling.pool(tokens[None], self.how, self._card.grid, self._card.cls, image[None])
        vector: Float32 = rows[0]
        return vector


class MachineModels:
    """Configuration, packages and standings of one machine's models; every lane has its own (`for_lane`).

    Args:
        machine: its name, for errors.
        config: the machine's section.
        shelf: the packages of this process.
        first: what the configuration puts in force.
        pool: where windows wait for each other; without one every window runs at once.
    """

    def __init__(self, machine: str, config: Model, shelf: Shelf, first: Standing, pool: Pool | None = None) -> None:
        self.machine, self.config, self.shelf = machine, config, shelf
        self.first = first
        self.pool = pool or Pool(shelf)
        self._standings = Standings(first)
        self._encoders: dict[str, Encoder] = {}
        self._heads = {head.name: head for head in config.heads}

    def for_lane(self, pool: Pool | None = None) -> MachineModels:
        """The same, with standings of its own."""
        return MachineModels(self.machine, self.config, self.shelf, self.first, pool)

    def head(self, name: str) -> Head:
        """The configuration of a detector."""
        return self._heads[name]

    def encoder(self, digest: str) -> Encoder:
        """The encoder of this digest, or `LOGMEL`; made once."""
        found = self._encoders.get(digest)
        if found is None:
            card = None if digest == LOGMEL else self.shelf.get(digest).card
            found = self._encoders[digest] = Encoder(digest, self.config.pooling, card)
        return found

    def at(self, t_end_ns: int) -> Standing:
        """What is in force for a window that ends then."""
        return self._standings.at(t_end_ns)

    @property
    def newest(self) -> Standing:
        """What the newest decision says."""
        return self._standings.newest

    def decide(self, decision: Decision) -> None:
        """Take a decision of the kind ``model`` in.

        Raises:
            StateError: a package that it names is not at hand.
            BadInput: the packages do not fit each other.
        """
        for digest, said in decision.body.get("packages", {}).items():
            self.shelf.hint(digest, Path(said["path"]))
        standing = standing_of(decision.body)
        for lineup in (standing.active, standing.shadow):
            if lineup is not None:
                self.check(lineup)
        self._standings.decide(decision)

    # what fits -----------------------------------------------------------------------------------------------------

    def check(self, lineup: Lineup) -> None:
        """Refuse packages that do not fit the lanes' log-Mel, each other, or the configuration.

        Raises:
            BadInput: says what does not fit what.
            StateError: a package is not at hand.
        """
        encoder = self.encoder(lineup.encoder)
        if {name for name, _ in lineup.heads} != set(self._heads):
            raise BadInput("heads", f"machine '{self.machine}' has the heads {sorted(self._heads)}, no others")
        for name, digest in lineup.heads:
            self._check_head(self._heads[name], self.shelf.get(digest).card, encoder)

    def _check_head(self, head: Head, card: Card, encoder: Encoder) -> None:
        where = f"machine '{self.machine}', head '{head.name}': '{card.name}' {card.version}"
        if card.kind != "head" or not card.labels or card.outputs[0].shape != (len(card.labels),):
            raise BadInput("kind", f"{where} is of kind {card.kind}, or without a number per label")
        try:
            card.reads(encoder.digest)
        except BadInput as error:
            raise BadInput("encoder", f"{where}: {error}; an encoder and its heads change in one command") from None
        if card.input.shape != (encoder.width,) or (encoder.how and card.pooling not in {"", encoder.how}):
            wants = f"{card.input.shape} of pooling '{card.pooling}'"
            raise BadInput("pooling", f"{where} reads {wants}, the encoder gives {encoder.width} of '{encoder.how}'")
        if strange := sorted(set(head.abnormal) - set(card.labels)):
            raise BadInput("labels", f"{where} has no label {', '.join(strange)}; it has {', '.join(card.labels)}")

    # commands ------------------------------------------------------------------------------------------------------

    def verify(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A command as the body of its decision, checked: the whole standing after it.

        Raises:
            ConfigError: no such action, or nothing to act on.
            BadInput, StateError: as `check`.
        """
        action = str(body.get("action"))
        named = list(body.get("packages") or ())
        now = self._standings.newest
        if action == "promote":
            if not named and now.shadow is None:
                raise ConfigError(f"machine '{self.machine}' has nothing in shadow: name the package to promote")
            active = self.replaced(now.active, named) if named else now.shadow
            assert active is not None
            after = Standing(active, None if now.shadow == active else now.shadow)
        elif action == "rollback":
            before = self._standings.before
            if before is None:
                raise ConfigError(f"machine '{self.machine}' has had no other models to go back to")
            after = Standing(before, None if now.shadow == before else now.shadow)
        elif action == "shadow":
            shadow = self.replaced(now.active, named) if named else None
            after = Standing(now.active, None if shadow == now.active else shadow)
        else:
            raise ConfigError(f"a model can be {', '.join(ACTIONS)}, not '{action}'")
        for lineup in (after.active, after.shadow):
            if lineup is not None:
                self.check(lineup)
        return {"action": action, **self._body(after)}

    def _body(self, standing: Standing) -> dict[str, Any]:
        digests = [*standing.active.digests, *(standing.shadow.digests if standing.shadow else ())]
        packages = {}
        for digest in digests:
            package = self.shelf.get(digest)
            packages[digest] = {
                "name": package.card.name, "version": package.card.version, "path": str(package.folder),
            }  # fmt: skip
        shadow = None if standing.shadow is None else standing.shadow.body()
        return {"active": standing.active.body(), "shadow": shadow, "packages": packages}

    def replaced(self, lineup: Lineup, named: Sequence[Mapping[str, Any]]) -> Lineup:
        """A lineup with some packages in place of those of their kind.

        Args:
            lineup: to begin with.
            named: ``{"path", "digest", "head"}`` each; `head` tells which one a head replaces where they differ.

        Raises:
            ConfigError: it is not clear what a package replaces.
            BadInput, StateError: a package cannot be loaded.
        """
        for said in named:
            package = self._fetch(said)
            if package.card.kind == "encoder":
                lineup = Lineup(package.digest, lineup.heads)
                continue
            for name in self._replaces(said, lineup):
                lineup = lineup.with_head(name, package.digest)
        return lineup

    def _replaces(self, said: Mapping[str, Any], lineup: Lineup) -> list[str]:
        """The detectors that a head package is for: the one named, else all if they share one package now."""
        names = [str(said["head"])] if said.get("head") else list(self._heads)
        shared = said.get("head") or len({digest for _, digest in lineup.heads}) == 1
        if not shared or not set(names) <= set(self._heads):
            held = ", ".join(self._heads) or "none"
            raise ConfigError(
                f"{said['path']}: which head of machine '{self.machine}' does it replace? It has {held}: "
                "write NAME=PACKAGE"
            )
        return names

    def _fetch(self, said: Mapping[str, Any]) -> Any:
        folder, digest = Path(said["path"]), str(said.get("digest") or "")
        if not digest:
            return self.shelf.add(folder)
        self.shelf.hint(digest, folder)
        return self.shelf.get(digest)


def configured(machine: str, config: Model, shelf: Shelf) -> MachineModels:
    """The models that a configuration names.

    Raises:
        ConfigError, BadInput, StateError: a package is missing, damaged, or does not fit.
    """
    encoder = LOGMEL if isinstance(config.encoder, str) else shelf.add(config.encoder).digest
    heads = tuple(sorted((head.name, shelf.add(head.package).digest) for head in config.heads))
    made = MachineModels(machine, config, shelf, Standing(Lineup(encoder, heads)))
    shadow = None
    if config.shadow:
        shadow = made.replaced(made.first.active, [{"path": str(path)} for path in config.shadow])
    made = MachineModels(machine, config, shelf, Standing(made.first.active, shadow))
    for lineup in (made.first.active, shadow):
        if lineup is not None:
            made.check(lineup)
    return made


def of_recording(machine: str, config: Model, shelf: Shelf, standing: Mapping[str, Any]) -> MachineModels:
    """The models that a recording was made with, its packages found by their digest.

    Raises:
        StateError: a package is not at hand.
    """
    made = MachineModels(machine, config, shelf, standing_of(standing))
    for lineup in made.first:
        if lineup is not None:
            made.check(lineup)
    return made


def body_of(standing: Standing) -> dict[str, Any]:
    """What a recording keeps of a standing."""
    return {"active": standing.active.body(), "shadow": None if standing.shadow is None else standing.shadow.body()}
