"""Over several devices: who holds what, whether it fits, the fewest that would, and how long a step takes.

The formulas are those of `training.scale`, on which docs/scale.md is made. Paddock trains so (`parallel:` in a recipe);
its engine serves on one device, so that a plan for serving says what tensor parallelism elsewhere would hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from paddock.catalog.fit import beside, timing
from paddock.catalog.fit.cards import MOST, Devices
from paddock.catalog.fit.plan import Component, Phase, Plan
from paddock.catalog.fit.subject import Subject
from paddock.catalog.fit.timing import Speed
from paddock.catalog.fit.trained import WHOLE
from paddock.catalog.fit.training import Need, Settings
from paddock.errors import UsageError
from paddock.model.spec import Architecture, Experts
from paddock.training.scale import Piece, Sharing, memory, parameters, traffic

USABLE = 0.92  # of a device's memory; the rest is for its driver, messages and holes (docs/scale.md)
NEIGHBOURS = 8  # devices within a machine: tensor groups are no larger
OUTSIDE = 25e9  # bytes a second out of a machine, where nothing else is known (200 Gbit/s)


@dataclass(frozen=True)
class Layout:
    """One way to share a model. rows: at once on a device. need: bytes on each."""

    mode: str
    sharing: Sharing
    rows: int
    need: int
    components: tuple[Component, ...]
    data: float = 0.0
    tensor: float = 0.0

    @property
    def setting(self) -> str:
        """As a recipe says it."""
        mode = "fsdp" if self.sharing.shards else "ddp"
        more = f" parallel.tensor={self.sharing.tensor}" if self.sharing.tensor > 1 else ""
        return "one device" if self.sharing.devices == 1 else f"parallel.mode={mode}{more}"


def plan(subject: Subject | Architecture, settings: Settings, devices: Devices) -> Plan:
    """The first way that fits of ddp, fsdp, fsdp x tp; where none does, the one that needs least, and how many devices
    would do. Raises UsageError for rows that the devices cannot share."""
    architecture = subject if isinstance(subject, Architecture) else subject.known()
    name = architecture.family if isinstance(subject, Architecture) else subject.name
    found = list(layouts(subject, settings, devices.count))
    if not found:
        raise UsageError(
            f"{devices.count} devices cannot share {settings.batch} rows evenly",
            fix=f"make the batch a multiple of {devices.count}",
        )
    space = round(USABLE * devices.memory)
    best = next((each for each in found if each.need <= space), min(found, key=lambda each: each.need))
    shown = {
        **asdict(settings), "devices": str(devices), "mode": best.mode, "rows_at_once": best.rows,
        "setting": best.setting, "sends_bytes_a_step": round(best.data + best.tensor),
    }  # fmt: skip
    remarks = [f"each of {devices} holds this; {best.setting}"]
    remarks += [f"{each.mode}: {each.need / 1e9:,.1f} GB on each" for each in found if each is not best]
    if devices.card is not None:
        remarks += _time(architecture, settings, devices, best)
    phase = Phase("a step", best.components)
    made = Plan(settings.task, name, str(devices), shown, (phase,), space, remarks=tuple(remarks))
    if best.need <= space:
        return made
    enough = fewest(subject, settings, devices)
    if enough is None:
        return made
    what = devices.card.name if devices.card else f"{devices.memory / 1e9:g}GB"
    rows = "" if settings.batch % enough == 0 else f" --batch {enough * settings.batch}"
    return replace(made, changes=(f"--devices {enough}x{what}{rows}",))


def layouts(subject: Subject | Architecture, settings: Settings, count: int) -> Iterator[Layout]:
    """Every way in which `count` devices can share it, plain ones first."""
    architecture = subject if isinstance(subject, Architecture) else subject.known()
    if settings.batch % count == 0 or count == 1:
        yield _whole(subject, settings, count)
    if settings.task not in WHOLE:
        if settings.batch % count == 0 and count > 1 and settings.task != "prompt":  # which passes each block twice
            yield _beside(subject, settings, count)
        return
    if architecture.encoder is not None:
        return
    for tensor in (1, 2, 4, 8):
        sharing = Sharing(count, tensor)
        fits = tensor <= min(count, NEIGHBOURS) and count % tensor == 0 and settings.batch % sharing.data == 0
        if fits and _divides(architecture, tensor) and count > 1:
            yield _sharded(architecture, settings, sharing)


def fewest(subject: Subject | Architecture, settings: Settings, devices: Devices) -> int | None:
    """The smallest power of two of such devices that fits, a row for each at least; None where no number does."""
    count, space = 1, USABLE * devices.memory
    while count <= min(MOST, 4096):
        tried = settings if settings.batch % count == 0 else replace(settings, batch=count * settings.batch)
        if any(each.need <= space for each in layouts(subject, tried, count)):
            return count
        count *= 2
    return None


def _whole(subject: Subject | Architecture, settings: Settings, count: int) -> Layout:
    """All of it on each (ddp): the plan for one device, and the messages of all gradients."""
    own = replace(settings, batch=settings.batch // count if count > 1 else settings.batch)
    own = replace(own, micro_batch=min(own.micro_batch, own.batch), device="cuda", framework=0)
    need = Need(subject, own)
    worst = max(need.phases, key=lambda phase: phase.bytes)
    parts = [part for part in worst.components if part.bytes]
    size = 4 * need.trained.numbers
    if count > 1:
        parts.append(Component("messages", size, f"{need.trained.numbers:,} x 4 bytes, gradients", "transient"))
    sent = 2 * (count - 1) / count * size
    total = sum(part.bytes for part in parts)
    return Layout("ddp" if count > 1 else "one", Sharing(count, shards=False), own.rows, total, tuple(parts), sent)


def _beside(subject: Subject | Architecture, settings: Settings, count: int) -> Layout:
    """An adapter, its base in shards (fsdp)."""
    own = replace(settings, batch=settings.batch // count, device="cuda", framework=0)
    own = replace(own, micro_batch=min(own.micro_batch, own.batch))
    need = Need(subject, own)
    parts = beside.held(need, count)
    data = beside.sent(need, count, -(-own.batch // own.rows))
    return Layout("fsdp", Sharing(count), own.rows, sum(part.bytes for part in parts), parts, data)


def _sharded(architecture: Architecture, settings: Settings, sharing: Sharing) -> Layout:
    own = settings.batch // sharing.data
    rows = min(settings.micro_batch or own, own)
    piece = Piece(rows, settings.length, settings.recompute)
    held = memory(architecture, sharing, piece)
    sent = traffic(architecture, sharing, piece, -(-own // rows))
    count = parameters(architecture)
    cut = f" / {sharing.data}" if sharing.data > 1 else ""
    parts = (
        Component("state", round(held.state), f"{count:,} x 16 bytes{cut}, less in tensor parts", "weights"),
        Component("working", round(held.working), "blocks gathered in 2 bytes, gradients of one sent", "transient"),
        Component("activations", round(held.activations), f"{rows} rows of {settings.length:,} tokens", "activations"),
    )
    mode = f"fsdp x tp {sharing.tensor}" if sharing.tensor > 1 else "fsdp"
    return Layout(mode, sharing, rows, sum(part.bytes for part in parts), parts, sent.data, sent.tensor)


def _divides(architecture: Architecture, tensor: int) -> bool:
    for block in architecture.layers:
        each = block.feedforward.each if isinstance(block.feedforward, Experts) else block.feedforward
        if block.attention.kv_heads % tensor or each.hidden % tensor:
            return False
    return True


def _time(architecture: Architecture, settings: Settings, devices: Devices, best: Layout) -> list[str]:
    card = devices.card
    assert card is not None
    speed = Speed(card.rate, card.read, card.name)
    found = timing.estimate(
        architecture,
        speed,
        length=settings.length,
        batch=settings.batch,
        tokens=10**9,
        devices=devices.count,
        recompute=settings.recompute,
        frozen=settings.task not in WHOLE,
    )
    link = card.link if devices.count <= NEIGHBOURS else min(card.link, OUTSIDE)
    sending = best.data / link + best.tensor / card.link
    said = f"a step computes for {found.step:.3g} s and sends for {sending:.3g} s"
    rate = f"{found.share:.0%} of {card.rate / 1e12:,.0f} x 10^12 operations a second assumed"
    more = [f"{said}; 10^9 tokens take {found.seconds / 3600:,.3g} hours, computing alone ({rate})"]
    if card.half:
        more.append(f"{card.name} has no bfloat16: the rate is float16's, in which Paddock does not train")
    return more


def serving_share(subject: Subject, bytes_of_weights: int, cache: int, tensor: int) -> int:
    """Bytes on each of `tensor` devices that share matrices and cache (what other engines do; Paddock's serves on one).

    Tables, norms and head are whole on each. Raises UsageError where the heads cannot be shared.
    """
    architecture = subject.known()
    if not _divides(architecture, tensor):
        heads = architecture.layer(0).attention.kv_heads
        raise UsageError(f"{tensor} devices cannot share {heads} key-value heads and the features between evenly")
    total = parameters(architecture)
    inside = sum(group.numbers for group in subject.groups if "blocks." in group.name and len(group.shape) == 2)
    cut = bytes_of_weights * inside / max(1, total)
    return round(bytes_of_weights - cut + cut / tensor + cache / tensor)
