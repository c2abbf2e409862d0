"""Commands that study data and method: advise; for image classification pretrain, balance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Column, Table

from labelwise.cli.console import ProjectOption, SetOption, app, bar, open_project, out, plain, tell
from labelwise.errors import LabelwiseError

if TYPE_CHECKING:
    from labelwise.report import tables as report_tables

PANEL = "Image classification"


@app.command()
def advise(
    project: Annotated[
        Path | None,
        typer.Option("--project", "-p", help="A project: which unit pays; of classification, what picks teach."),
    ] = None,
    classes: Annotated[int | None, typer.Option(min=2, help="Classification: number of classes.")] = None,
    pool: Annotated[int | None, typer.Option(min=1, help="Classification: number of images, labelled or not.")] = None,
    budget: Annotated[
        int | None, typer.Option(min=1, help="Classification: how many of them will be labelled in all.")
    ] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Classification: features are pre-trained by self-supervision.")
    ] = False,
    frozen: Annotated[
        bool, typer.Option("--frozen", help="Classification: features are those of a foreign network, never trained.")
    ] = False,
    models: Annotated[
        bool, typer.Option("--models", help="Of the project: a frozen detector or a trained one, by measurement?")
    ] = False,
    train: Annotated[
        bool, typer.Option("--train", help="With --models: train the project's detector on every fold, too (minutes).")
    ] = False,
    recipe: Annotated[
        str | None,
        typer.Option(help="With --models: whose model and training the trained detector has; else the project's."),
    ] = None,
    settings: SetOption = None,
) -> None:
    """Tells what pays for your data: which unit of a question, or whether active learning beats random labelling.

    Of a detection project with two rounds or more it tells whether whole images, regions or boxes bring the most clean
    boxes for the time of people, and why: objects an image, recall and precision of the pseudo boxes, hit rate.
    `labelwise advise --project demo/entropy`

    With `--models` it tells which detector to take now, a frozen one or one that is trained, and when to change over:
    by the recall of the proposals on what is labelled so far, and by both detectors on images held back of it.
    `labelwise advise --project demo/entropy --models --train`

    Of a classification budget it tells whether active learning is expected to beat random: by what was measured for so
    many labels per class, with its source, or that this is not known. Of a classification project it also measures how
    often the model was right about what the method picked, against random images.

    Example: `labelwise advise --classes 10 --pool 50000 --budget 5000 --pretrained`
    """
    if project is not None:
        if any(given is not None for given in (classes, pool, budget)) or pretrained or frozen:
            raise LabelwiseError("advise: give --project alone, or --classes, --pool and --budget without it")
        if models:
            advise_on_models(project, train, recipe, settings or [])
            return
        if train or recipe or settings:
            raise LabelwiseError("advise: --train, --recipe and --set go with --models")
        if open_project(project).run.classifies:
            advise_on_picks(project)
            return
        advise_on_units(project)
        return
    if models or train or recipe or settings:
        raise LabelwiseError(
            "advise: --models, --train, --recipe and --set go with a detection project (--project FOLDER)"
        )
    if classes is None or pool is None or budget is None:
        raise LabelwiseError(
            "advise: give a detection project (--project FOLDER), or --classes, --pool and --budget of a classification"
        )
    from labelwise.study import advise as advice

    if pretrained and frozen:
        raise LabelwiseError("advise: features are either --pretrained on these images or --frozen; give one")
    origin: advice.Features = "pretrained" if pretrained else "frozen" if frozen else "scratch"
    tell(advice.text(advice.advise(classes, pool, budget, features=origin)))


def advise_on_picks(project: Path) -> None:
    """Prints what was measured for the labels of a classification project, and what its own picks teach."""
    opened = open_project(project)
    from labelwise.study import advise as advice
    from labelwise.study import pick_accuracy

    labels = len(opened.project.ledger.annotation_rows()["label"])
    classes, pool = len(opened.pool.classes), len(opened.pool)
    features = pick_accuracy.features_of(opened)
    tell(advice.text(advice.advise(classes, pool, min(labels, pool), features=features)))
    rows = pick_accuracy.of_project(opened)
    if not rows:
        tell("No round has asked yet whose picks could be looked at; `labelwise run` goes on.")
        return
    out.print(on_terminal(pick_accuracy.table(rows)))
    tell(pick_accuracy.sentence(rows[-1]))


def advise_on_units(project: Path) -> None:
    """Prints which unit pays for a project, with its evidence."""
    opened = open_project(project)
    from labelwise.study import unit_choice, unit_evidence, unit_text

    found = unit_evidence.of_project(opened)
    choice = unit_choice.choose(found.evidence, found.prices)
    for table in (unit_text.units_table(choice), unit_text.evidence_table(found)):
        out.print(on_terminal(table))
    for line in [*unit_text.sentences(found, choice), unit_text.EXPECTED]:
        tell(line)
    tell(f"Which detector, a frozen or a trained one: `labelwise advise --project {project} --models`")


def advise_on_models(project: Path, train: bool, recipe: str | None, settings: list[str]) -> None:
    """Prints which detector to take for a project, with its evidence."""
    opened = open_project(project)
    from labelwise.study import model_choice, model_text, model_trial

    found = model_trial.of_project(opened, train=train, recipe=recipe, settings=settings)
    out.print(on_terminal(model_text.table(found)))
    for line in model_text.sentences(found, model_choice.decide(found)):
        tell(line)


def on_terminal(table: report_tables.Table) -> Table:
    """A table of the report, for the terminal."""
    heads = [Column(plain(head), overflow="fold") for head in table.columns]
    shown = Table(*heads, title=plain(table.caption), caption=plain(table.note) or None)
    for row in table.rows:
        shown.add_row(*map(plain, row))
    return shown


@app.command(rich_help_panel=PANEL)
def pretrain(
    recipe: Annotated[str, typer.Argument(help="A recipe whose data and backbone are taken.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the weights go (.safetensors).")],
    epochs: Annotated[int, typer.Option(min=1, help="Epochs.")] = 800,
    batch_size: Annotated[int, typer.Option(min=2, help="Images per step.")] = 512,
    lr: Annotated[float, typer.Option(help="Learning rate for a batch of 256.")] = 0.03,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    settings: SetOption = None,
) -> None:
    """Trains the backbone of a classifier on the images alone (SimSiam); needs the extra `ssl`.

    Stopped at any moment, the same command goes on. Then: `labelwise run RECIPE+METHOD -s model.weights=FILE
    -s model.frozen=true`.

    Example: `labelwise pretrain cifar10 --epochs 100 -o runs/simsiam.safetensors`
    """
    import numpy as np

    from labelwise import catalog, config, files
    from labelwise.data import pixels
    from labelwise.models import classifier
    from labelwise.project import opening
    from labelwise.stages.checkpoints import Checkpoint, new_model
    from labelwise.train import simsiam

    run = opening.resolve_paths(config.load(catalog.recipe_files(recipe), settings or []), output)
    if not run.classifies or run.data.generated:
        raise LabelwiseError(f"{recipe}: pretrain takes a recipe of image classification, such as cifar10")
    pool, _, _ = opening.pools(run, run.data.folder(), run.data.pool_split or "", "")
    with bar(f"read {len(pool)} images", len(pool)) as advance:
        found = pixels.load(pool, run.data.image_size_px, most_bytes=run.data.cache_gb * 1e9 / 2, progress=advance)
    readable = np.setdiff1d(np.arange(len(pool)), list(found.failed))
    if len(readable) < 2:
        why = next(iter(found.failed.values()), "the pool is empty")
        raise LabelwiseError(f"{pool.root}: {len(readable)} readable images, pretrain needs at least 2. First: {why}")
    free = run.model_copy(update={"model": run.model.model_copy(update={"frozen": False})})
    model: Any = new_model(free, len(pool.classes), [seed])
    unfinished = Checkpoint(output.with_suffix(".unfinished.safetensors"))
    batch = min(batch_size, len(readable))
    with bar(f"pre-train on {len(readable)} images", epochs * (len(readable) // batch)) as advance:
        info = simsiam.pretrain(
            found.squares[readable].transpose(0, 2, 3, 1),
            classifier.Pooled(model),
            epochs=epochs,
            batch_size=batch,
            lr=lr,
            seed=seed,
            accelerator=run.train.accelerator,
            threads=run.train.threads,
            checkpoint=unfinished,
            progress=advance,
        )
    weights = {k: v.detach().cpu().numpy() for k, v in model.backbone["body"].state_dict().items()}
    files.write_tensors(output, weights)
    unfinished.path.unlink(missing_ok=True)
    out.print(f"loss {info['losses'][0]:.3f} -> {info['loss']:.3f}, {info['images_per_s']:.0f} images/s")
    if info["warning"]:
        out.print(f"[bold]warning:[/] {info['warning']}")
    out.print(f"{output}: labelwise run {recipe}+METHOD -s model.weights={output} -s model.frozen=true", soft_wrap=True)


@app.command(rich_help_panel=PANEL)
def balance(
    project: ProjectOption = Path(),
    round_number: Annotated[
        int | None, typer.Option("--round", help="A scored round; the last one unless given.")
    ] = None,
) -> None:
    """Proposes λ of the class-balanced program for a project: what each λ does to the picks (001, Fig. 4.4).

    Example: `labelwise balance --project runs/cifar10_entropy`
    """
    opened = open_project(project)
    from labelwise.project.round import Round
    from labelwise.stages import classification

    if not opened.run.classifies:
        raise LabelwiseError(f"{project}: balance is for image classification; this project detects objects")
    scored = [r for r in range(1, opened.run.rounds) if opened.project.ledger.stage_done(r, "score") is not None]
    if not scored or (round_number is not None and round_number not in scored):
        raise LabelwiseError(
            f"{project}: round {round_number or 1} has no scores yet; run it first with `labelwise run`"
        )
    found = classification.lambdas(Round(opened, scored[-1] if round_number is None else round_number))
    table = Table("λ", "sum of scores", "L1 to the target", "L1 score", "gap to the bound", title=opened.run.name)
    table.add_row("0 (highest scores)", *(f"{v:.4g}" for v in found.top), "")
    for k, lam in enumerate(found.lams):
        style = "bold" if lam == found.proposed else ""
        cells = (f"{column[k]:.4g}" for column in (found.informativeness, found.distance, found.l1))
        table.add_row(f"{lam:g}", *cells, f"{100 * found.gap[k]:.2g} %", style=style)
    table.add_row(f"{found.proposed:g}, pseudo labels", *(f"{v:.4g}" for v in found.pseudo), "")
    out.print(table)
    end = (
        f"Still falling at the largest λ that was tried, {found.proposed:g}: a larger one may balance more."
        if found.still_falling
        else f"The smallest λ after which the distance does not fall further: {found.proposed:g}."
    )
    out.print(f"{end} {found.note}".strip())
