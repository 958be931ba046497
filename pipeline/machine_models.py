"""The models of one machine: what the configuration names, what decisions put in force, and whether it fits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from config.schema import Head, Model
from models.packages import VIBRATION, Card
from pipeline.accelerometers import Accelerometers
from pipeline.encoder import Encoder
from pipeline.errors import BadInput, ConfigError
from pipeline.lineup import LOGMEL, Lineup, Standing, Standings, standing_of
from pipeline.messages import Decision, Stream
from pipeline.models_pool import Pool
from pipeline.shelf import Shelf

ABSTAIN = 0.6
"""Probability below which a head's answer is `unknown`, where neither configuration nor card say otherwise."""
ACTIONS = ("promote", "rollback", "shadow")


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
        self._encoders: dict[tuple[str, str | None], Encoder] = {}
        self._heads = {head.name: head for head in config.heads}
        self._accelerometers = Accelerometers(())
        self._hears: tuple[str, ...] | None = None
        self._read: dict[tuple[Lineup, str], Lineup] = {}
        self._lined: dict[Lineup, Encoder] = {}

    def for_lane(self, pool: Pool | None = None) -> MachineModels:
        """The same, with standings of its own."""
        made = MachineModels(self.machine, self.config, self.shelf, self.first, pool)
        made._accelerometers, made._hears = self._accelerometers, self._hears
        return made

    def announce(self, streams: Iterable[Stream]) -> None:
        """Say which sensors the machine has; the first word counts.

        Args:
            streams: of all its sensors, as the inventory has them.

        Raises:
            BadInput: a head in force or in shadow reads none of them.
            StateError: a package is not at hand.
        """
        if self._hears is not None:
            return
        heard = [s for s in streams if not self.config.sensors or s.sensor in self.config.sensors]
        self._accelerometers = Accelerometers(heard)
        self._hears = tuple(s.sensor for s in heard if s.modality in {"acoustic", "stethoscope"})
        for lineup in self.first:
            if lineup is not None:
                self.check(lineup)

    def embeds(self, lineup: Lineup, sensor: str, settings: str) -> bool:
        """Whether an embedding of a sensor, told by the hash of its settings, is what a lineup's heads read of it."""
        return sensor in self._accelerometers or self.encoder_of(lineup).settings == settings

    def read_from(self, lineup: Lineup, sensor: str) -> Lineup:
        """The lineup with those heads alone that read what this sensor gives."""
        found = self._read.get((lineup, sensor))
        if found is None:
            heads = tuple(head for head in lineup.heads if self._reads(self.shelf.get(head[1]).card, sensor))
            found = self._read[lineup, sensor] = replace(lineup, heads=heads)
        return found

    def _reads(self, card: Card, sensor: str) -> bool:
        if card.encoder == VIBRATION:
            return self._accelerometers.reads(card, sensor)
        return sensor not in self._accelerometers

    def head(self, name: str) -> Head:
        """The configuration of a detector."""
        return self._heads[name]

    def encoder(self, digest: str, how: str | None = None) -> Encoder:
        """The encoder of this digest, or `LOGMEL`, pooled as told, as configured, or as its card says; made once."""
        key = digest, how or self.config.pooling
        found = self._encoders.get(key)
        if found is None:
            card = None if digest == LOGMEL else self.shelf.get(digest).card
            found = self._encoders[key] = Encoder(digest, key[1], card)
        return found

    def encoder_of(self, lineup: Lineup) -> Encoder:
        """The encoder of a lineup, pooled as its heads were taught where the configuration leaves that open."""
        found = self._lined.get(lineup)
        if found is None:
            taught = sorted(self._poolings(lineup))
            found = self._lined[lineup] = self.encoder(lineup.encoder, taught[0] if taught else None)
        return found

    def _poolings(self, lineup: Lineup) -> set[str]:
        """How the heads on sound want the tokens pooled; empty where the configuration says it."""
        if self.config.pooling is not None or lineup.encoder == LOGMEL:
            return set()
        cards = [self.shelf.get(digest).card for _, digest in lineup.heads]
        return {card.pooling for card in cards if card.kind == "head" and card.encoder != VIBRATION and card.pooling}

    def at(self, stream: tuple[str, int], t_end_ns: int) -> Standing:
        """What is in force for a window of a stream, told by sensor and epoch, that ends then."""
        return self._standings.at(stream, t_end_ns)

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
        if len(wanted := sorted(self._poolings(lineup))) > 1:
            raise BadInput(
                "pooling",
                f"the heads of machine '{self.machine}' read {', '.join(wanted)}: an embedding has one pooling",
            )
        encoder = self.encoder_of(lineup)
        if {name for name, _ in lineup.heads} != set(self._heads):
            raise BadInput("heads", f"machine '{self.machine}' has the heads {sorted(self._heads)}, no others")
        for name, digest in lineup.heads:
            self._check_head(self._heads[name], self.shelf.get(digest).card, encoder)

    def _check_head(self, head: Head, card: Card, encoder: Encoder) -> None:
        where = f"machine '{self.machine}', head '{head.name}': '{card.name}' {card.version}"
        if card.kind != "head" or not card.labels or card.outputs[0].shape != (len(card.labels),):
            raise BadInput("kind", f"{where} is of kind {card.kind}, or without a number per label")
        if card.encoder == VIBRATION:
            self._check_vibration(card, where)
        else:
            self._check_sound(card, where, encoder)
        if strange := sorted(set(head.abnormal) - set(card.labels)):
            raise BadInput("labels", f"{where} has no label {', '.join(strange)}; it has {', '.join(card.labels)}")

    def _check_vibration(self, card: Card, where: str) -> None:
        if self._hears is not None:
            self._accelerometers.check(card, where)

    def _check_sound(self, card: Card, where: str, encoder: Encoder) -> None:
        if self._hears == ():
            raise BadInput("modality", f"{where} was taught on sound, and no sensor of this machine hears any")
        try:
            card.reads(encoder.digest)
        except BadInput as error:
            raise BadInput("encoder", f"{where}: {error}; an encoder and its heads change in one command") from None
        if card.input.shape != (encoder.width,) or (encoder.how and card.pooling not in {"", encoder.how}):
            wants = f"{card.input.shape} of pooling '{card.pooling}'"
            raise BadInput("pooling", f"{where} reads {wants}, the encoder gives {encoder.width} of '{encoder.how}'")

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
            if shadow == now.active:
                raise ConfigError(f"machine '{self.machine}' runs these already: name packages to compare with them")
            after = Standing(now.active, shadow)
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

        A head on the time mean of the log-Mel brings that along: there is no encoder to be named with it.

        Args:
            lineup: to begin with.
            named: ``{"path", "digest", "head"}`` each; `head` tells which one a head replaces where they differ.

        Raises:
            ConfigError: it is not clear what a package replaces.
            BadInput, StateError: a package cannot be loaded.
        """
        encoder = ""
        for said in named:
            package = self._fetch(said)
            if package.card.kind == "encoder":
                encoder = package.digest
                continue
            if package.card.encoder == LOGMEL:  # the time mean of the image is no package that could be named
                encoder = encoder or LOGMEL
            for name in self._replaces(said, lineup):
                lineup = lineup.with_head(name, package.digest)
        return replace(lineup, encoder=encoder or lineup.encoder)

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
