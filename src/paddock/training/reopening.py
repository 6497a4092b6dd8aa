"""What a stage's run was made of, noted in its folder, so that it can be resumed by the same and opened again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from paddock.checkpoint.writing import write_text
from paddock.errors import DataError, UsageError
from paddock.training import recipe_files
from paddock.training.conduct import Origin
from paddock.training.run import RECIPE

SOURCE = "source.json"  # where a run's recipe lay, and what else it was made beside
BESIDE_THE_WEIGHTS = ("card", "parallel", "prompts")  # what of a recipe a resumed run may have otherwise

Recipe = TypeVar("Recipe", bound=BaseModel)


def note(run: Path, **folders: Path) -> None:
    """Writes down the folders that a run was made beside, by name."""
    table = {name: str(folder.resolve()) for name, folder in folders.items()}
    write_text(run / SOURCE, json.dumps(table, indent=2) + "\n")


def reopened(run: Path, schema: type[Recipe], verb: str, *folders: str) -> tuple[Recipe, list[Path]]:
    """A run's recipe, and the noted folders of these names.

    Raises UsageError where the folder holds no run of `paddock VERB`, DataError for notes that cannot be read.
    """
    if not (run / RECIPE).is_file() or not (run / SOURCE).is_file():
        raise UsageError(f"{run} is no run of `paddock {verb}`", expected=f"a folder with {RECIPE} and {SOURCE}")
    recipe = recipe_files.validated(schema, recipe_files.read(run / RECIPE), str(run / RECIPE))
    try:
        table = json.loads((run / SOURCE).read_text(encoding="utf-8"))
        return recipe, [Path(table[name]) for name in folders]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{run / SOURCE} cannot be read: {error}") from None


def origin_of(recipe: BaseModel, data: str) -> Origin:
    """What a run of this recipe is made of. data: as of `Origin`."""
    values = recipe.model_dump(mode="json")
    deciding = {key: value for key, value in values.items() if key not in BESIDE_THE_WEIGHTS}
    return Origin(recipe_files.write(values), data, recipe_files.write(deciding))
