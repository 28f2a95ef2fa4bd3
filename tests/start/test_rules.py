"""From folders to configs: a truth per rule. Nothing is trained."""

import pytest
import yaml

from ctrak_jax.config import Config, load
from ctrak_jax.config.scoring import UnnamedConfig
from ctrak_jax.data import build
from ctrak_jax.errors import UsageError
from ctrak_jax.pipeline import stages_of
from ctrak_jax.start import Facts, Machine, Proposal, costs, look, propose, text, written
from tests.start.folders import COUNT, HAIR, STYLE, array, folder

SLOW = Machine("2 cores", 240.0, 35.0)
FAST = Machine("2 cores", 1e5, 35.0)
BOTH = {"style": STYLE, "hair": HAIR}
CAPTIONS = [f"a {style} portrait with {hair} hair" for style, hair in zip(STYLE, HAIR, strict=True)]


def proposed(facts: Facts, machine: Machine = SLOW, **options) -> Proposal:
    return propose(facts, machine, **options)


def refused(action, *args, **options) -> str:
    with pytest.raises(UsageError) as caught:
        action(*args, **options)
    message = str(caught.value)
    assert message.splitlines() == [message], "a message is one line"
    return message


def large(facts: Facts, times: int) -> Facts:
    """The same folder with each image many times over."""
    columns = tuple(c._replace(values=c.values * times) for c in facts.columns)
    sizes = type(facts.sizes)({size: n * times for size, n in facts.sizes.items()})
    return facts._replace(columns=columns, sizes=sizes, captions=facts.captions * times)


# What is written


@pytest.mark.parametrize(
    "kind",
    ["attributes", "captions", "both", "both by captions", "array", "resized", "odd names"],
)
def test_the_written_config_is_what_was_printed_and_the_data_fit_it(tmp_path, kind):
    odd = {"a: b, c": ["yes", "no", "on"] * 20, 'größe "x"': ["1", "null"] * 30}
    made = {
        "attributes": lambda p: folder(p, BOTH),
        "captions": lambda p: folder(p, captions=CAPTIONS),
        "both": lambda p: folder(p, BOTH, captions=CAPTIONS),
        "both by captions": lambda p: folder(p, BOTH, captions=CAPTIONS),
        "array": lambda p: array(p, (COUNT, 28, 28), BOTH),
        "resized": lambda p: folder(p, BOTH, size=(50, 40)),
        "odd names": lambda p: folder(p, odd),
    }[kind](tmp_path / "my images")
    found = propose(look(made), SLOW, "text-to-image" if kind == "both by captions" else None)
    file = tmp_path / "mine.yaml"
    file.write_text(written(found, str(file)))
    assert load(file) == found.config
    shown = text(found, str(file))
    given = yaml.safe_load(file.read_text())
    for choice in found.choices:
        section, _, name = choice.setting.rpartition(".")
        assert (given[section] if section else given)[name] == choice.value
        assert f"  {choice.setting} = {choice.value}: " in " ".join(
            line if line.startswith("  ") and not line.startswith("    ") else line.strip()
            for line in shown.splitlines()
        )
        assert choice.why.endswith("."), "a reason is a sentence"
    data = build(found.config.data)
    assert data.image_shape[0] == data.image_shape[1] <= 32
    assert set(data.conditions.attributes) == set(found.config.data.condition_on)


def test_every_reason_stands_above_its_setting(tmp_path):
    found = proposed(look(folder(tmp_path / "a", BOTH)))
    lines = written(found, "a.yaml").splitlines()
    for choice in found.choices:
        name = choice.setting.rpartition(".")[2]
        places = [i for i, line in enumerate(lines) if line.strip().startswith(f"{name}:")]
        assert any(lines[i - 1].strip().startswith("# ") for i in places), choice.setting


def test_images_without_a_value_are_left_out(tmp_path):
    """Of the attributes chosen; others may be missing."""
    hair, notes = ["", *HAIR[1:]], ["x", "y", ""] * 20
    table = {"style": STYLE, "hair": hair, "notes": notes}
    found = proposed(look(folder(tmp_path / "a", table)))
    assert found.config.data.condition_on == ("style", "hair")
    assert found.config.data.incomplete == "skip"
    assert found.config.query.combinations == 6
    assert len(build(found.config.data).train_index) == COUNT - 1
    found = proposed(look(folder(tmp_path / "b", {**table, "hair": HAIR})))
    assert found.config.data.incomplete == "refuse"
    assert len(build(found.config.data).train_index) == COUNT


# Images


@pytest.mark.parametrize(
    ("size", "side", "resize"),
    [
        ((28, 28), 28, False),
        ((32, 32), 32, False),
        ((30, 30), 28, True),  # a multiple of a patch, and never larger
        ((64, 48), 32, True),
        ((20, 16), 16, True),
    ],
)
def test_the_side_is_a_multiple_of_a_patch_and_at_most_32(tmp_path, size, side, resize):
    data = proposed(look(folder(tmp_path / "a", BOTH, size=size))).config.data
    assert data.resize == resize
    assert build(data).image_shape == (side, side, 3)


def test_grey_digits_need_no_setting(tmp_path):
    digits = [str(i % 3) for i in range(COUNT)]
    found = proposed(look(folder(tmp_path / "a", {"digit": digits}, size=(28, 28), mode="L")))
    assert found.config.data.condition_on == ("digit",)
    assert build(found.config.data).train_images().shape == (COUNT, 28, 28, 3)
    assert any("no combination can be held out" in note for note in found.notes)


def test_the_smallest_of_several_sizes_counts(tmp_path):
    made = folder(tmp_path / "a", BOTH, size=(40, 40))
    from PIL import Image

    Image.new("RGB", (25, 90)).save(made / "images" / "0003.png")
    assert proposed(look(made)).config.data.image_size == 24


@pytest.mark.parametrize(("side", "patch"), [(28, 4), (64, 8), (48, 6), (30, 3)])
def test_an_array_keeps_its_side_and_the_patch_fits(tmp_path, side, patch):
    found = proposed(look(array(tmp_path / "a", (COUNT, side, side), BOTH))).config
    assert found.model.patch == patch
    assert not found.data.resize


@pytest.mark.parametrize("shape", [(COUNT, 24, 32), (COUNT, 31, 31)])
def test_an_array_that_cannot_be_cut_is_refused(tmp_path, shape):
    facts = look(array(tmp_path / "a", shape, BOTH))
    message = refused(propose, facts, SLOW)
    assert "images.npy" in message
    assert "images/*.png" in message


def test_celeba_is_known_by_its_files_and_always_resized(tmp_path):
    made = folder(tmp_path / "a", size=(40, 50))
    (made / "images").rename(made / "img_align_celeba")
    rows = [f"{i:04d}.png {1 if i % 2 else -1} {1 if i % 3 else -1}" for i in range(COUNT)]
    (made / "list_attr_celeba.txt").write_text(f"{COUNT}\nMale Young\n" + "\n".join(rows) + "\n")
    config = proposed(look(made)).config
    assert (config.data.kind, config.data.image_size) == ("celeba", 32)
    assert config.data.condition_on == ("Male", "Young")
    assert build(config.data).image_shape == (32, 32, 3)


# Time


def test_known_runs_take_what_they_took():
    """Training of shapes and of avatars (configs/synthetic.yaml, configs/avatars.yaml)."""
    shapes = Config.model_validate({"train": {"steps": 2000}})
    avatars = Config.model_validate({"model": {"width": 128}, "train": {"steps": 3000}})
    for config, side, gflops, taken in ((shapes, 16, 241.0, 65 / 60), (avatars, 32, 410.0, 14)):
        found = costs.minutes(costs.training(config, side), gflops)
        assert taken / 1.5 < found < taken * 1.5


def test_the_known_sets_get_what_suits_them(tmp_path):
    drawn = {"shape": ["triangle", "circle"] * 30, "color": HAIR}
    small = large(look(folder(tmp_path / "a", drawn)), 67)
    found = proposed(small, FAST).config
    assert (found.model.width, found.train.steps, found.data.candidates) == (64, 2000, None)
    many = {"style": [str(i % 10) for i in range(COUNT)], "hair": [f"h{i % 5}" for i in range(60)]}
    found = proposed(large(look(folder(tmp_path / "b", many, size=(32, 32))), 200), FAST).config
    assert found.model.width == 128
    assert 3000 <= found.train.steps <= 4000


def test_two_cores_of_240_gflops_are_enough_for_half_an_hour(tmp_path):
    many = {"style": [str(i % 10) for i in range(COUNT)], "hair": [f"h{i % 5}" for i in range(60)]}
    found = proposed(large(look(folder(tmp_path / "b", many, size=(64, 64))), 200))
    assert 20 < found.minutes.total < 40, "with the default settings of the method"
    assert found.config.train.steps >= 2300
    assert any("--data.image_size 64" in note for note in found.notes)


def test_the_time_bounds_steps_and_candidates_but_not_below_what_is_needed(tmp_path):
    facts = large(look(folder(tmp_path / "b", BOTH, size=(32, 32))), 200)
    configs = [
        proposed(facts, Machine("", gflops, 35.0)).config for gflops in (1.0, 200.0, 300.0, 1e5)
    ]
    steps = [config.train.steps for config in configs]
    ranked = [config.data.candidates or facts.pictures for config in configs]
    assert steps == sorted(steps)
    assert ranked == sorted(ranked)
    assert (steps[0], ranked[0]) == (2100, 500)
    assert max(ranked) == 5000
    slow = proposed(facts, Machine("", 1.0, 35.0))
    assert any("longer than the 35 min" in note for note in slow.notes)


def test_a_hold_out_leaves_enough_candidates(tmp_path):
    """The one that is advised, among the candidates of any machine."""
    facts = large(look(folder(tmp_path / "a", BOTH)), 20)
    for gflops in (1.0, 30.0, 100.0, 1e4):
        found = proposed(facts, Machine("", gflops, 35.0))
        (advised,) = [note for note in found.notes if "hold_out" in note]
        (values,) = yaml.safe_load(advised.split("'")[1])
        columns = {column.name: column.values for column in facts.columns}
        carriers = [all(columns[n][i] == v for n, v in values.items()) for i in range(1200)]
        assert sum(carriers) > 0
        assert (found.config.data.candidates or 0) <= 1200 - sum(carriers)
        for name, value in values.items():
            assert columns[name].count(value) - sum(carriers) >= 10, "other carriers stay"


def test_the_features_without_every_attribute_are_counted(tmp_path):
    facts = large(look(folder(tmp_path / "a", BOTH, size=(32, 32))), 100)
    for gflops in (1.0, 100.0, 1e4):
        found = proposed(facts, Machine("", gflops, 35.0))
        config, ranked = found.config, found.config.data.candidates or facts.pictures
        alone = config.model_copy(update={"unnamed": UnnamedConfig(attributes=())})
        once = costs.minutes(costs.featurizing(alone, 32, ranked), gflops)
        assert found.minutes.featurizing == pytest.approx(3 * once)


def test_products_with_a_dense_projection_are_counted():
    options = {
        "methods": ("trak", "d-trak"),
        "unnamed": {"attributes": ()},
        "controls": (),
        "gradient": {"include": ("block_0/attn/proj/*",)},
    }

    def cost(kind: str, k: int = 64) -> float:
        config = Config.model_validate({**options, "projection": {"kind": kind, "k": k}})
        return costs.featurizing(config, 16, 10)

    selected = 64 * 64 + 64
    assert cost("rademacher") - cost("srht") == pytest.approx(
        10 * 2 * costs.EFFICIENCY * 2 * selected * 64
    )
    assert cost("srht", 128) == cost("sjlt", 64)


def test_few_images_are_not_passed_over_a_thousand_times(tmp_path):
    found = proposed(look(folder(tmp_path / "a", BOTH, size=(32, 32))), FAST)
    train = found.config.train
    assert train.batch <= COUNT / 2
    assert 300 < train.steps * train.batch / COUNT <= 400
    assert any("by heart" in note for note in found.notes)


# Kinds


def test_captions_alone_train_a_model_of_captions(tmp_path):
    found = proposed(look(folder(tmp_path / "a", captions=CAPTIONS, size=(30, 40))))
    assert found.config.model.kind == "text-to-image"
    assert found.config.data.image_size == 24, "a multiple of eight"
    assert stages_of(found.config) == ("train", "encode", "featurize")
    _, question = found.commands("a.yaml")
    prompt, word = question.split('"')[1::2]
    assert prompt in CAPTIONS
    assert word in prompt


def test_attributes_go_before_captions_unless_told_otherwise(tmp_path):
    facts = look(folder(tmp_path / "a", BOTH, captions=CAPTIONS))
    found = proposed(facts)
    assert found.config.model.kind == "dit"
    assert any("--kind text-to-image" in note for note in found.notes)
    assert proposed(facts, kind="text-to-image").config.model.kind == "text-to-image"


# Refusals


def test_what_cannot_be_done_is_said_with_what_to_add(tmp_path):
    assert "no such folder" in refused(look, tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "images" in refused(look, tmp_path / "empty")
    assert "add attributes.csv" in refused(look, folder(tmp_path / "bare"))
    few = look(folder(tmp_path / "few", {"a": ["x", "y"] * 5}, count=10))
    assert "10 images, too few" in refused(propose, few, SLOW)
    ids = look(folder(tmp_path / "ids", {"id": [str(i) for i in range(COUNT)]}))
    assert "id: 60 values of 60 images" in refused(propose, ids, SLOW)
    assert "no captions" in refused(
        propose, look(folder(tmp_path / "c", BOTH)), SLOW, "text-to-image"
    )
    captioned = look(folder(tmp_path / "d", captions=CAPTIONS))
    assert "no attribute" in refused(propose, captioned, SLOW, "dit")
    short = folder(tmp_path / "short", BOTH)
    table = short / "attributes.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n")
    assert "59 rows for 60 images" in refused(look, short)
    assert "pixels along a side" in refused(
        propose, look(folder(tmp_path / "t", BOTH, size=(6, 6))), SLOW
    )
