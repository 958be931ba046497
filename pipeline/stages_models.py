"""The stages of learned models: log-Mel windows to embeddings, embeddings to states of the machine and to scores."""

from __future__ import annotations

import hashlib
import zlib
from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping
from typing import ClassVar, NamedTuple

import numpy as np

from models.anomaly.baseline import Baseline
from models.anomaly.embedding import EmbeddingScore
from models.anomaly.score import AnomalyScore
from models.anomaly.vectors import extraction
from models.heads.vibration import vector
from models.packages import VIBRATION
from operators.base import Windowed
from operators.mel import PAPER
from pipeline.encoder import Encoder
from pipeline.errors import BadInput
from pipeline.headers import SOURCE, source_of
from pipeline.lineup import LOGMEL, Lineup, Standing
from pipeline.machine_models import MachineModels
from pipeline.messages import NS, DeadLetter, Embedding, Message, Score, Stream, Window
from pipeline.models_pool import Job
from pipeline.results import canonical
from pipeline.stages import SOUND_RATE, UNTOLD, Anomaly, LaneSettings
from pipeline.states import SHADOW, States

EMBEDDING = "embedding"
HOP = PAPER.hop * PAPER.window_hop
"""Samples at 48 kHz between two log-Mel windows."""
LEFT_NS = 60 * NS
"""For so long behind a baseline with an embedding, windows under one without it say that they are not judged."""


class Deferred(Windowed):
    """A windowed operator whose answers come later than its inputs; the lane fetches them."""

    @property
    @abstractmethod
    def answered(self) -> bool:
        """Whether the oldest input that waits has its answer."""

    @abstractmethod
    def release(self) -> list[Message]:
        """What has been answered meanwhile, in the order of the inputs."""


class _Run(NamedTuple):
    """A window on its way through one encoder; `job` is None where there is nothing to wait for."""

    detector: str
    encoder: Encoder
    job: Job | None


class Embed(Deferred):
    """`Window` of a log-Mel image → `Embedding`, and the same vector as a `Window` for detectors that read it.

    Every n-th window of the stream's grid is embedded, by the packages that are in force when it ends; the grid is that
    of sample indices, so that a restart changes nothing. Which of n it is depends on the machine's name: streams that
    begin together, as at a start, would else all be embedded in the same half second. The first window of a stream is
    embedded whoever's turn it is: a short recording may have no other. Incomplete and silent windows give none. A
    window that a model refuses becomes a dead letter with the model's reason.
    """

    memory_s: ClassVar[float] = 0.0

    def __init__(self, models: MachineModels, stream: Stream) -> None:
        self._models = models
        self._stream = stream
        self._waiting: deque[tuple[Window, list[_Run]]] = deque()
        self._turn = zlib.crc32(stream.machine.encode()) % models.config.every
        self._first = int(stream.rate != SOUND_RATE)  # resampling begins within window 0, which is then never whole

    def needs_from(self) -> Mapping[tuple[str, int], int]:
        """The oldest window without an answer."""
        return {self._stream.key: self._waiting[0][0].n0} if self._waiting else {}

    def process(self, message: Message) -> Iterable[Message]:
        """Hand one window to its encoders."""
        if not isinstance(message, Window):
            raise TypeError(f"Embed takes Window, not {type(message).__name__}")
        pool = self._models.pool
        if not message.complete:
            pool.counts["embedding.incomplete"] += 1
            return ()
        if message.side.get("silent"):  # the image of digital silence shows nothing, or noise at full level
            pool.counts["embedding.silent"] += 1
            return ()
        number = message.n0 // HOP
        if number != self._first and number % self._models.config.every != self._turn:
            return ()
        standing = self._models.at(message.stream.key, message.t_end_ns)
        active = self._models.encoder_of(standing.active)
        runs = [_Run(EMBEDDING, active, self._submitted(active, message))]
        if standing.shadow is not None:
            beside = self._models.encoder_of(standing.shadow)
            if beside.digest != active.digest:
                runs.append(_Run(SHADOW + EMBEDDING, beside, self._submitted(beside, message)))
            elif beside.settings != active.settings:  # pooled in another way: the same run serves both
                runs.append(_Run(SHADOW + EMBEDDING, beside, runs[0].job))
        self._waiting.append((message, runs))
        return self.release()

    def _submitted(self, encoder: Encoder, window: Window) -> Job | None:
        if encoder.digest == LOGMEL:
            return None
        return self._models.pool.submit(encoder.digest, self._models.machine, window.values[None])

    @property
    def answered(self) -> bool:
        """Whether the models in force have answered the oldest window."""
        return bool(self._waiting) and all(run.job is None or run.job.done for run in self._waiting[0][1])

    def release(self) -> list[Message]:
        """The windows whose answers have come, in order."""
        out: list[Message] = []
        while self.answered:
            window, runs = self._waiting.popleft()
            for run in runs:
                out += self._told(window, run)
        return out

    def _told(self, window: Window, run: _Run) -> list[Message]:
        error = "" if run.job is None else run.job.error
        if not error:
            values = run.encoder.vector(window.values, None if run.job is None else run.job.rows)
            error = "" if np.isfinite(values).all() else "the embedding is not finite"
        if error:
            return [refused(window, "wire.logmel", f"{run.encoder.model}: {error}")]
        stream = window.stream
        embedding = Embedding(
            stream.machine, (stream.sensor,), run.detector, window.t_end_ns, values, run.encoder.model,
            run.encoder.settings, (window.span,),
        )  # fmt: skip
        if run.detector != EMBEDDING:
            return [embedding]
        vector = Window(stream, window.n0, window.n1, window.t_end_ns, values, side=window.side)
        return [vector, embedding]

    def flush(self) -> Iterable[Message]:
        """The stream has ended: nothing may wait for other machines any longer."""
        if self._waiting:
            self._models.pool.finish()
        return self.release()


def refused(window: Window, topic: str, why: str) -> DeadLetter:
    """The place of a window of which a model makes no numbers, with the reason."""
    stream = window.stream
    place = {"sensor": stream.sensor, "epoch": stream.epoch, "n0": window.n0, "n1": window.n1}
    headers = ((SOURCE, source_of(stream.machine, stream.sensor).encode()),)
    return DeadLetter(topic, stream.machine, "model_error", why, headers, canonical(place))


def embedding(settings: LaneSettings, stream: Stream | None) -> Embed | None:
    """Embeddings, where the machine names an encoder."""
    models = settings.models
    if models is None or stream is None or (models.config.sensors and stream.sensor not in models.config.sensors):
        return None
    return Embed(models, stream)


class EmbedVibration(Windowed):
    """`Window` of an accelerometer → `Embedding` of the features that heads on vibration read (`vector`).

    Every n-th window of the stream's grid that a head in force, or in shadow, reads; by the code that taught the head.
    Incomplete and silent windows give none. A shadow that comes with another encoder has an embedding of its own, as
    the shadow of a sound sensor has.
    """

    memory_s: ClassVar[float] = 0.0

    def __init__(self, models: MachineModels, stream: Stream) -> None:
        self._models = models
        self._features = extraction(stream)
        front_end = self._features.front_end
        self._topic = "wire.window" if front_end is None else "wire.logmel"
        self._hop = max(1, round(stream.rate.hz)) if front_end is None else front_end.hop * front_end.window_hop
        said = {"encoder": VIBRATION, "features": self._features.hash}
        self._settings = hashlib.sha256(canonical(said)).hexdigest()[:16]

    def needs_from(self) -> Mapping[tuple[str, int], int]:
        """Nothing: each window stands for itself."""
        return {}

    def process(self, message: Message) -> Iterable[Message]:
        """The features of one window."""
        if not isinstance(message, Window):
            raise TypeError(f"EmbedVibration takes Window, not {type(message).__name__}")
        told = self._told(self._models.at(message.stream.key, message.t_end_ns), message.stream.sensor)
        if not told:
            return ()
        if not message.complete:
            self._models.pool.counts["embedding.incomplete"] += 1
            return ()
        if message.n0 // self._hop % self._models.config.every:
            return ()
        values = vector(self._features, message)
        if values is None:
            return ()
        if not np.isfinite(values).all():
            return [refused(message, self._topic, f"{VIBRATION}: the features are not finite")]
        stream = message.stream
        return [
            Embedding(
                stream.machine, (stream.sensor,), detector, message.t_end_ns, values, VIBRATION, self._settings,
                (message.span,),
            )
            for detector in told
        ]  # fmt: skip

    def _told(self, standing: Standing, sensor: str) -> list[str]:
        """Under which names the features are told: `States` takes a shadow of the same encoder from the active one."""

        def read(lineup: Lineup | None) -> bool:
            return lineup is not None and bool(self._models.read_from(lineup, sensor).heads)

        beside = standing.shadow is not None and standing.shadow.encoder == standing.active.encoder
        active = read(standing.active) or (beside and read(standing.shadow))
        return [EMBEDDING] * active + [SHADOW + EMBEDDING] * (not beside and read(standing.shadow))


def embedding_vibration(settings: LaneSettings, stream: Stream | None) -> EmbedVibration | None:
    """Features for heads on vibration, where the machine names heads and the sensor is fast enough for a log-Mel."""
    return _embed_vibration(settings, stream, slow=False)


def embedding_slow(settings: LaneSettings, stream: Stream | None) -> EmbedVibration | None:
    """The same for sensors too slow for a log-Mel."""
    return _embed_vibration(settings, stream, slow=True)


def _embed_vibration(settings: LaneSettings, stream: Stream | None, slow: bool) -> EmbedVibration | None:
    models = settings.models
    if models is None or stream is None or not models.config.heads:
        return None
    return EmbedVibration(models, stream) if (extraction(stream).front_end is None) == slow else None


class AnomalyOfEmbedding(Anomaly):
    """`Window` of an embedding → `Score` of the detector ``embedding``, where the baseline has learned it.

    Under another encoder than that of the baseline the score is incomplete and says why: commission again. So it is for
    `LEFT_NS` under a baseline that has not learned it, behind one that has.
    """

    def __init__(self, settings: LaneSettings, stream: Stream, models: MachineModels) -> None:
        self._models = models
        super().__init__(settings, stream)

    def _scorer(self, baseline: Baseline) -> AnomalyScore:
        baseline.check(self._stream)
        return EmbeddingScore(baseline, baseline.encoder, baseline.pooling, None if self._fact is None else self._state)

    def _judge(self, window: Window) -> Iterable[Message]:
        scorer = self._in_force(window.t_end_ns)
        if scorer is None:
            return ()
        baseline = scorer.baseline
        if not baseline.encoder:
            text = f"the baseline {baseline.settings} has learned no embedding"
            return [self._untold(window, baseline, text)] if self._left(window.t_end_ns) else ()
        encoder = self._models.encoder_of(self._models.at(window.stream.key, window.t_end_ns).active)
        try:
            baseline.check_encoder(encoder.digest, encoder.how)
        except BadInput as error:
            return [self._untold(window, baseline, str(error))]
        return super()._judge(window)

    def _left(self, t_end_ns: int) -> bool:
        """Whether the baseline in force then has lately replaced one with an embedding."""
        *earlier, (began_ns, _) = [version for version in self._versions if version[0] < t_end_ns]
        return t_end_ns - began_ns <= LEFT_NS and any(scorer.baseline.encoder for _, scorer in earlier)

    def _untold(self, window: Window, baseline: Baseline, text: str) -> Score:
        stream = window.stream
        return Score(
            stream.machine, (stream.sensor,), EMBEDDING, window.t_end_ns, 0.0, 1.0, baseline.settings, False,
            {"text": text, UNTOLD: True}, (window.span,),
        )  # fmt: skip


def anomaly_embedding(settings: LaneSettings, stream: Stream | None) -> AnomalyOfEmbedding | None:
    """Distance of the embedding from normal, where the machine names an encoder."""
    models = settings.models
    return AnomalyOfEmbedding(settings, stream, models) if stream is not None and models is not None else None


class StatesOfSensor(States):
    """`States` by those heads of the machine that read the sensor: sound has heads on sound, vibration its own.

    A shadow that pools the same encoder's tokens in another way reads its own embedding, not that of the active heads.
    """

    def _read(self, embedding: Embedding, lineup: Lineup, prefix: str) -> list[Message]:
        if not self._models.embeds(lineup, embedding.sensors[0], embedding.settings):
            return []
        return super()._read(embedding, self._models.read_from(lineup, embedding.sensors[0]), prefix)


def states(settings: LaneSettings, _stream: Stream | None) -> States | None:
    """States and class scores, where the machine names heads."""
    models = settings.models
    return StatesOfSensor(models) if models is not None and models.config.heads else None
