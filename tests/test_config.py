"""The config: every error at once, overrides, recipes that are laid over each other, and a loss-free round trip."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from test_recipes import COMMON, data_set

from labelwise import catalog, config, loop
from labelwise.config import run_file, sections
from labelwise.project import changes, opening, starter
from labelwise.types import LabelwiseError

METHODS = ("random", "entropy", "u", "u_cb", "u_cb_hpl", "u_cb_thpl", "u_cb_tspl")
DATA = ("scenes", "scenes_voc", "bccd", "aquarium", "voc0712")


def test_every_error_of_a_file_is_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(
        'sed = 1\n[data]\nroot = "x"\n[train]\nepocs = 3\nlr = -1\n[query]\nscore = "entrpy"\n'
        'select = { name = "balance_frequency", sigm = 2 }\n[labels]\npolicy = { name = "hard", tau_cls = "much" }\n'
    )
    with pytest.raises(LabelwiseError) as caught:
        config.load(path)
    message = str(caught.value)
    assert "6 error(s)" in message
    for part in ("'seed'", "'epochs'", "train.lr", "'entropy'", "'sigma'", "tau_cls"):
        assert part in message


def test_a_file_that_is_not_toml_says_where(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("[data\n")
    with pytest.raises(LabelwiseError, match=r"run\.toml is not valid toml.*line 1"):
        config.load(path)


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("method", METHODS)
def test_every_recipe_of_table_1_is_valid_on_every_data_set_and_survives_a_round_trip(
    data: str, method: str, tmp_path: Path
) -> None:
    run = config.load(catalog.recipe_files(f"{data}+{method}"))
    assert run.query.unit == "box"
    (tmp_path / "run.toml").write_text(config.dump(run))
    assert config.load(tmp_path / "run.toml") == run


def test_overrides_win_and_a_newly_named_method_drops_the_other_ones_settings(tmp_path: Path) -> None:
    files = catalog.recipe_files("bccd+u_cb")
    run = config.load(files, ["query.select.sigma=0.3", "labels.policy=noisy", "seed=4", "budget.per_round=[5, 6]"])
    assert run.query.select[0].settings == {"sigma": 0.3}
    assert (run.labels.policy.name, run.seed, run.rounds) == ("noisy", 4, 3)
    above = config.load([*files, *catalog.recipe_files("u")])
    assert [step.name for step in above.query.select] == ["top"]
    assert above.query.select[0].settings == {}


def test_one_unit_takes_the_place_of_several_and_the_other_way_round(tmp_path: Path) -> None:
    several = catalog.recipe_files("fod_a_frozen+mixed_units")
    every = ("box", "image", "region")
    assert config.load(several).query.asked == every, "the layer above names several, the one below a single one"
    assert config.load(several, ["query.unit=image"]).query.asked == ("image",)
    assert config.load(several, ["query.unit=image", 'query.units=["box", "image"]']).query.asked == ("box", "image")
    run = config.load(several)
    assert run.query.two_words is None
    (tmp_path / "run.toml").write_text(config.dump(run))
    assert config.load(tmp_path / "run.toml") == run and "unit" not in tomllib.loads(config.dump(run))["query"]
    assert config.load(tmp_path / "run.toml", ["query.unit=image"]).query.asked == ("image",)
    (tmp_path / "above.toml").write_text('[query]\nunit = "image"\n')
    assert config.load([*several, tmp_path / "above.toml"]).query.asked == ("image",)
    assert config.load([tmp_path / "above.toml", *several[1:]], ["data.root=x"]).query.asked == every


def test_one_file_that_says_both_units(tmp_path: Path) -> None:
    """A project that an earlier labelwise stored so opens, and is told; one that is made or changed is refused."""
    both = tmp_path / "both.toml"
    both.write_text('[query]\nunits = ["box", "region"]\nunit = "image"  # mine\n')
    several, root = "fod_a_frozen+mixed_units", data_set(tmp_path / "d")
    query = 'query={unit="box", units=["box", "image"], score="random", select="gain_per_second"}'
    for make in (
        lambda: opening.start(tmp_path / "p", f"{several}+{both}", ["data.root=."]),
        lambda: starter.make(tmp_path / "p", root, settings=[query, "budget.unit=seconds", "labels.policy=ignore"]),
    ):
        with pytest.raises(LabelwiseError, match=r"both set, and query\.units = \[.*\] counts: remove query\.units"):
            make()
        assert not (tmp_path / "p").exists()
    run = config.load(catalog.recipe_files(several), ["data.root=."])
    file = tmp_path / "run.toml"
    file.write_text(config.dump(run).replace("[query]\n", '[query]\nunit = "image"\n'))  # as it was written once
    old = config.load(file)
    said = run.model_dump(mode="json")
    assert changes.between({**said, "query": {**said["query"], "unit": "image"}}, said) == []
    assert old == run and old.query.two_words is not None and old.query.asked == run.query.asked
    file.write_text(run_file.change(file, ['query.units=["box", "image"]']))
    assert config.load(file).query.two_words is None and config.load(file).query.asked == ("box", "image")
    file.write_text(run_file.change(file, ["query.unit=region"]))
    assert config.load(file).query.asked == ("region",) and "\nunits" not in file.read_text()


def test_a_project_that_says_both_units_goes_on_and_is_told(tmp_path: Path) -> None:
    settings = ['query.units=["box", "image"]', "query.select=gain_per_second", "budget.unit=seconds", *COMMON]
    opening.start(tmp_path / "p", "entropy", [f"data.root={data_set(tmp_path / 'd')}", *settings]).project.close()
    file = tmp_path / "p" / "run.toml"
    file.write_text(file.read_text().replace("[query]\n", '[query]\nunit = "box"\n'))
    told: list[str] = []
    opened = opening.start(tmp_path / "p", None)
    opened.tell = told.append
    loop.begin(opened)
    assert [line for line in told if "query.unit and query.units are both set" in line]
    opening.start(tmp_path / "p", None, ["train.epochs=3"]).project.close()  # what is set is another thing
    assert config.load(file).train.epochs == 3
    opening.start(tmp_path / "p", None, ["query.unit=image"]).project.close()
    assert config.load(file).query.asked == ("image",)


def test_views_are_asked_for_only_where_something_reads_them() -> None:
    assert config.load(catalog.recipe_files("bccd+u")).needs_views
    assert not config.load(catalog.recipe_files("bccd+random")).needs_views
    with pytest.raises(LabelwiseError, match=r"predict\.views is empty"):
        config.load(catalog.recipe_files("bccd+u"), ["predict.views=[]"])


def test_votes_and_weights_of_boxes_ask_for_what_they_look_at_and_for_nothing_else() -> None:
    def run(*given: str) -> config.Run:
        return config.load(catalog.recipe_files("bccd+random"), given)

    plain, voting = run("labels.policy=dual"), run("labels.policy=dual", "labels.vote=true")
    assert not plain.needs_views and not plain.outputs and not plain.columns_of_labels
    assert voting.needs_views and voting.outputs == {"view_boxes"}
    assert voting.columns_of_labels == ("view_iou", "view_boxes") and "view_boxes" in voting.columns
    assert run("labels.policy={name='task_soft'}").columns_of_labels == ("view_iou",)
    for box, more in (("quality", ("model.quality=true",)), ("tightness", ())):
        one = run(f"labels.policy={{name='dual', box='{box}'}}", *more)
        assert one.outputs == {box} and one.columns_of_labels == (box,) and not one.needs_views
    assert run("labels.policy={name='dual', box='none'}").outputs == frozenset()
    assert run("labels.policy={name='dual', box='consistency'}").columns_of_labels == ("view_iou",)


EMA = ("train.teacher=ema", "train.warm_start=true", "train.whole_share=0.5")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["labels.policy={name='dual', box='quality'}"], r"set model\.quality = true"),
        (["labels.policy={name='dual', box='quality'}", "model.quality=false"], r"set model\.quality = true"),
        (["labels.policy={name='dual', box='quality'}", "model.name='faster_rcnn'"], r"set model\.quality = true"),
        (["labels.policy={name='dual', box='tightness'}", *EMA], r"does not tell the tightness"),
        (["labels.policy={name='dual', box='consistency'}", "predict.views=[]"], r"set predict\.views"),
        (["labels.policy=dual", "labels.vote=true", "predict.views=[]"], r"labels\.vote needs views"),
        (["labels.policy=dual", "labels.vote=true", "own_detector=true"], r"predictions from outside lack"),
        (["labels.policy={name='dual', box='size'}"], r"labels/dual: box = 'size'"),
    ],
)
def test_what_nothing_makes_is_refused_with_what_to_set(given: list[str], message: str) -> None:
    with pytest.raises(LabelwiseError, match=message):
        config.load(catalog.recipe_files("bccd+random"), given)


def test_a_classifier_has_no_boxes_to_vote_on() -> None:
    raw = {"data": {"root": "x"}, "model": "classifier", "query": {"unit": "image", "score": "entropy"}}
    raw |= {"labels": {"vote": True}, "predict": {"views": ["dropout", "dropout"]}}
    with pytest.raises(LabelwiseError, match="view_boxes is of boxes; a classifier does not give it"):
        config.parse(raw, "here")


def test_predictions_from_outside_come_with_their_own_views() -> None:
    raw = {"data": {"root": "x"}, "query": {"score": "consistency"}, "labels": {"policy": "task_soft"}}
    run = config.parse({**raw, "own_detector": True}, "here")
    assert run.needs_views and not run.predict.views
    with pytest.raises(LabelwiseError, match=r"predict\.views is empty.*set predict\.views"):
        config.parse(raw, "here")


def test_unknown_names_come_with_the_nearest_known_one() -> None:
    with pytest.raises(LabelwiseError, match="Did you mean 'consistency'"):
        catalog.find("score", "consistancy")
    with pytest.raises(LabelwiseError, match="Did you mean 'bccd'"):
        catalog.recipe_files("bcd+u")


@pytest.mark.parametrize(
    ("given", "place"),
    [
        (["query.select=balance_frequency", "query.balance_frequency.sigma=2"], "query.select"),
        (["labels.policy=ceal", "labels.ceal.delta=0.1"], "labels.policy"),
        (["query.score={name='margin'}", "query.margin.power=2"], "query.score"),
    ],
)
def test_settings_of_a_method_in_the_wrong_place_are_told_the_right_one(given: list[str], place: str) -> None:
    with pytest.raises(LabelwiseError, match=rf"What is set of \w+ stands with it: {place} = .*--set {place}\.KEY"):
        config.load(catalog.recipe_files("bccd+u"), given)
    with pytest.raises(LabelwiseError, match=r"unknown key in \[query\] 'select_it'") as caught:
        config.load(catalog.recipe_files("bccd+u"), ["query.select_it=2"])
    assert "What is set of" not in str(caught.value)


def test_a_method_of_the_users_own_is_loaded_by_its_dotted_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_lab_idea.py").write_text(
        "def score(scores, *, power: float = 1.0):\n    return 1 - scores**power\n"
    )
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "novelty.py").write_text(
        "def score(scores, *, power: float = 1.0):\n    return scores**power\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    method = catalog.find("score", "my_lab.novelty")
    assert method.inputs == ("scores",)
    assert method.call({"scores": 3.0, "probs": None}, {"power": 2}) == 9.0
    assert method.problems({"powr": 1}) == [
        "unknown setting of score/my_lab.novelty 'powr'; known: power. Did you mean 'power'?"
    ]
    with pytest.raises(LabelwiseError, match="needs scores"):
        method.call({}, {})


@pytest.mark.parametrize("folder", list(catalog.VERBS))
def test_every_folder_lists_methods_with_a_summary(folder: str) -> None:
    names = catalog.names(folder)
    assert names
    for name in names:
        assert len(catalog.summary(folder, name)) > 10
        assert not [i for i in catalog.find(folder, name).inputs if i.startswith("_")]


def test_a_whole_start_is_a_count_and_a_point_makes_a_share() -> None:
    assert sections.Budget(start_images=1).first(200) == 1
    assert sections.Budget(start_images=1.0).first(200) == 200
    assert sections.Budget(start_images=0.05).first(200) == 10
    with pytest.raises(ValueError, match="share of the pool above 1"):
        sections.Budget(start_images=20.0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.toml", b"\xff\xfe", "is not valid toml: 'utf-8' codec"),
        ("run.toml", b"a = " + b"[" * 5000, "is not valid toml"),
        ("run.toml", b"seed = " + b"9" * 5000, "is not valid toml"),
        ("run.yaml", b"a: !!timestamp x", "is not valid yaml"),
        ("run.yaml", b"[" * 5000, "is not valid yaml"),
    ],
)
def test_a_file_that_is_no_text_or_too_deep_is_one_error(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LabelwiseError, match=message):
        config.load(tmp_path / name)


@pytest.mark.parametrize("name", ["../../etc/passwd", ".x", "a..b", "a b.c", "."])
def test_a_dotted_name_is_that_of_a_module(name: str) -> None:
    with pytest.raises(LabelwiseError, match="or a module of your own"):
        catalog.find("score", name)


def test_a_number_has_no_settings_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("seed = 3\n")
    with pytest.raises(LabelwiseError, match="seed is 3, which has no settings of its own"):
        config.layers([tmp_path / "run.toml"], ["seed.x=1"])


@pytest.mark.parametrize("root", ["x" * 5000, "~nobody-of-that-name/x", "a\0b"])
def test_a_folder_that_cannot_be_is_not_there(root: str) -> None:
    with pytest.raises(LabelwiseError, match="there is no such folder"):
        sections.Data(root=root).folder()


@pytest.mark.parametrize(
    ("recipe", "setting"),
    [
        ("fod_a_frozen", "train.mosaic=0.5"),
        ("fod_a_frozen", "train.accumulate=2"),
        ("fod_a_frozen", "predict.precision=bf16"),
        ("cifar10_frozen", "train.compile=true"),
        ("cifar10", "train.mosaic=0.5"),
    ],
)
def test_a_setting_without_effect_on_the_model_is_refused(recipe: str, setting: str) -> None:
    config.load(catalog.recipe_files(recipe))
    with pytest.raises(LabelwiseError, match=rf"{setting.split('=')[0]} is not for \w+: remove it"):
        config.load(catalog.recipe_files(recipe), [setting])
