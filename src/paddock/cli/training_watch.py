"""What a training run shows and measures on its way: the live line, validation, sample texts, plots."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from paddock.cli import output
from paddock.cli.training_progress import TrainingProgress
from paddock.engine.language_model import LanguageModel
from paddock.model.transformer import Transformer
from paddock.pretrain.stage import Prepared
from paddock.training import journal, plots
from paddock.training.conduct import Hook
from paddock.training.loop import Trainer
from paddock.training.metrics import Metrics, Sink
from paddock.training.run import RunFolder
from paddock.training.tensorboard import TensorBoard
from paddock.training.validation import byte_lengths

SAMPLED = 64  # new tokens of a sample text


class Watching:
    """For `with`: `hooks`, `draw` and `tell` are what `pretrain.stage.pretrain` asks for.

    title: stands above the plots. folder: the run's own.
    """

    def __init__(self, title: str, folder: Path) -> None:
        self.title, self.folder = title, folder
        self._progress: TrainingProgress | None = None
        self._board: TensorBoard | None = None

    def __enter__(self) -> Watching:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.__exit__()
        if self._board is not None:
            self._board.close()

    def hooks(self, prepared: Prepared, trainer: Trainer) -> Sequence[Hook]:
        """One hook that measures and samples on every process, and shows on the main one."""
        sinks: list[Sink] = []
        if trainer.parallel.main:
            self._progress = TrainingProgress(trainer.recipe.steps)
            self.tell(f"precision: {trainer.precision}")
            sinks.append(self._progress)
            if trainer.recipe.tensorboard:
                self._board = TensorBoard(self.folder / "tensorboard")
                sinks.append(self._board)
        sampler = sampling(prepared, trainer) if prepared.recipe.prompts else None
        lengths = byte_lengths(prepared.tokenizer)
        return [Metrics(trainer, sinks, held_out=prepared.validation, lengths=lengths, sampler=sampler)]

    def draw(self, run: RunFolder) -> None:
        """The plots of what the run has logged so far."""
        plots.draw(journal.read(run.metrics), run.plots, self.title)

    def tell(self, text: str) -> None:
        (self._progress.note if self._progress is not None else output.note)(text)


def sampling(prepared: Prepared, trainer: Trainer) -> Callable[[Transformer], Sequence[str]]:
    """Writes on after each of the recipe's prompts, greedily, on the main process; every process must call it."""

    def sample(model: Transformer) -> list[str]:
        whole = trainer.parallel.whole(model)
        if whole is None:
            return []
        # A copy: the engine repacks the matrices of the model it is given.
        model = copy.deepcopy(whole).eval().requires_grad_(False)
        writer = LanguageModel(prepared.start.checkpoint(Path("training")), model, prepared.tokenizer)
        prompts = prepared.recipe.prompts
        return [prompt + writer.generate(prompt, SAMPLED, temperature=0).text for prompt in prompts]

    return sample
