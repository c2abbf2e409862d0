"""The stage label: what is known, completed by the predictions, as what the model trains on."""

from __future__ import annotations

from labelwise import catalog, files
from labelwise.config.label_rule import LabelRule
from labelwise.project import given
from labelwise.project.round import Round
from labelwise.stages import tracking
from labelwise.stages.thresholds import upper_thresholds
from labelwise.targets import partial, vote
from labelwise.types import Detections, Targets


def label(now: Round) -> None:
    """The training targets: everything in the ledger, completed by this round's predictions as the policy says."""
    found = now.detections(now.run.columns_of_labels) if now.number and not now.proposed else None
    made = targets(now, found)
    files.write_targets(now.folder.targets, made)
    now.info["images"], now.info["boxes"] = len(made), len(made.boxes)
    now.info["skipped"] = [(now.pool.names[i], why) for i, why in now.pool.unavailable.items()]


def targets(now: Round, found: Detections | None) -> Targets:
    """The training targets with pseudo labels of the given predictions, or with none."""
    run, pool = now.run, now.pool
    if found is not None:  # with the classes and images that were added since, without those that cannot be shown now
        found = found.of_images(len(pool)).of_classes(len(pool.classes))
        found = found.take(pool.available[found.image])
    doubt = found if run.model.settings.get("negatives") == "background" else None
    if found is not None:
        found = found.take(found.scores >= run.labels.threshold)
        found = vote.with_votes(found, pool.width_px, pool.height_px) if run.labels.vote else found
    policy = catalog.find("labels", run.labels.policy.name)
    made = partial.targets(
        now.known,
        found,
        weigh(run.labels, now.number),
        policy.constant("NEGATIVES"),
        pool.width_px,
        pool.height_px,
        pool.crowd,
        images=run.labels.images,
        regions=run.labels.regions,
        cut_objects=run.labels.cut_objects or "negative",
        class_thresholds=upper_thresholds(now),
        doubt=doubt,
        known_only=given.known_only(now.ledger, run, len(pool)),
    )
    made = tracking.with_neighbours(now, made)
    apart = run.train.whole_share is not None or run.train.teacher is not None
    return made if apart else made.without_whole()


def weigh(rule: LabelRule, round_number: int) -> partial.Weigh:
    """The run's label policy with its settings."""
    policy = catalog.find("labels", rule.policy.name)
    return lambda candidates: policy.call({**candidates, "round": round_number}, rule.policy.settings)
