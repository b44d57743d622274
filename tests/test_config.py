from pathlib import Path

import pytest

from harness.errors import CellbenchError
from harness.machine.accelerators import Device
from harness.plan import blocks, config, estimate
from harness.plan.cases import Node
from harness.stats import law
from harness.stats.student import PROCESSES_MIN


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", ["quick", "article", "thorough"])
def test_built_in_profiles(name: str) -> None:
    loaded = config.load(name)
    assert loaded.profile == name
    assert loaded.devices == ("auto",)


def test_the_article_profile_is_the_articles_design() -> None:
    loaded = config.load("article")
    assert loaded.crops == (*range(224, 2017, 224), "full")
    assert loaded.blocks * loaded.repeats >= 5


@pytest.mark.parametrize("name", ["quick", "article", "thorough"])
def test_every_profile_has_the_processes_that_an_interval_takes(name: str) -> None:
    assert config.load(name).blocks >= PROCESSES_MIN


def test_quick_has_sizes_for_a_law_and_ends_soon_on_two_cores() -> None:
    """The engine's guess counts 15 s for each start."""
    loaded = config.load("quick")
    assert len(loaded.crops) >= law.SIZES_MIN
    node = Node("desk", (Device("cpu", 0, "CPU"),), 2)
    assert estimate.estimate_s(blocks.blocks(loaded, 2160, 2560, [node])) < 180


def test_the_thorough_profile_repeats_until_the_mean_is_known_in_several_processes() -> None:
    loaded = config.load("thorough")
    assert loaded.blocks >= 3
    assert loaded.precision == 0.02
    assert loaded.control
    assert set(loaded.passes) == {"stages", "memory", "energy", "masks"}


def test_flags_override_the_profile_and_absent_flags_do_not() -> None:
    loaded = config.load("quick", {"repeats": 7, "crops": (64, "full"), "image": None})
    assert (loaded.repeats, loaded.crops, loaded.image) == (7, (64, "full"), "sparse")


def test_a_file_is_a_profile(tmp_path: Path) -> None:
    loaded = config.load(write(tmp_path, 'crops = [64]\ndevices = ["cpu", "cuda:1"]\nprotocols = ["article"]\n'))
    assert (loaded.profile, loaded.crops, loaded.devices) == ("mine", (64,), ("cpu", "cuda:1"))


def test_all_mistakes_at_once_with_their_lines(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        'image = "sparse"\n\ncrops = [224, 0, "half"]\nrepeats = "5"\nwarmup = 2\ndevices = ["tpu"]\nblocks = true\n',
    )
    with pytest.raises(CellbenchError) as caught:
        config.load(path, {"seed": -1})
    output = caught.value.where or ""
    for mistake in (
        f"{path}:3 crops",
        f"{path}:4 repeats",
        f"{path}:5 warmup",
        f"{path}:6 devices",
        f"{path}:7 blocks",
    ):
        assert mistake in output
    assert "--seed" in output
    assert "tpu" in output
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["crops = [224", "crops = 1 2", "\x00", "= 3"])
def test_broken_toml_says_where(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(CellbenchError, match="not valid TOML") as caught:
        config.load(path)
    assert path in (caught.value.where or "")


def test_bytes_that_are_not_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CellbenchError, match="not valid TOML"):
        config.load(str(path))


def test_missing_profile_names_the_built_in_ones() -> None:
    with pytest.raises(CellbenchError, match="article, quick, thorough"):
        config.load("nightly")


@pytest.mark.parametrize(
    "flags",
    [
        {"crops": ()},
        {"crops": (224, 224)},
        {"repeats": 0},
        {"protocols": ("fast",)},
        {"devices": ("cuda:x",)},
        {"precision": 2.0},
        {"passes": ("speed",)},
    ],
)
def test_bad_flags_are_named(flags: dict[str, object]) -> None:
    with pytest.raises(CellbenchError) as caught:
        config.load("quick", flags)
    assert "--" + next(iter(flags)).replace("protocols", "protocol") in str(caught.value)


# ---------------------------------------------------------------- models and variants


def test_models_are_named_in_a_profile_or_by_a_flag(tmp_path: Path) -> None:
    path = write(tmp_path, 'crops = [64]\nmodels = ["cyto2", "nuclei"]\n')
    assert config.load(path).models == ("cyto2", "nuclei")
    assert config.load(path, {"models": config.split("cyto3,sleep")}).models == ("cyto3", "sleep")
    assert config.load("quick").models == ("cyto3",)


@pytest.mark.parametrize(
    ("flags", "output"),
    [
        ({"models": ("cyto3", "cyto9")}, r"--models: there is no model 'cyto9'; models are cyto3, cyto2, nuclei"),
        ({"models": (3,)}, "--models: a model is a name"),
        ({"models": ()}, "--models: at least one is needed"),
        ({"models": ("cyto2", "cyto2")}, "--models: cyto2 is given more than once"),
        ({"variants": ("warp",)}, "--variants: unknown variant 'warp'"),
        ({"variants": ("fast",)}, "--variants: unknown variant 'fast'"),  # the simulated engine's
        ({"variants": ("fast",), "models": ("sleep", "cyto3")}, "--variants: unknown variant 'fast'"),
        ({"variants": ("lossless",), "models": ("sleep",)}, "--variants: unknown variant 'lossless'"),
        ({"variants": ("lossless+plain", "plain+lossless")}, r"lossless\+plain is given more than once"),
        ({"variants": ("stock", "batch=8")}, "stock is given more than once"),
        ({"variants": ("batch=16", "batch=016")}, "batch=16 is given more than once"),
        ({"variants": ("stock", "batch=8"), "models": ("sleep", "cyto3")}, "stock is given more than once"),
        ({"trust": ("0" * 63,)}, "--trust"),
        ({"repeats": 1, "precision": 0.02}, "--precision: one repetition has no spread; give repeats of at least 2"),
    ],
)
def test_what_cannot_be_is_named_with_its_flag(flags: dict[str, object], output: str) -> None:
    with pytest.raises(CellbenchError, match=output):
        config.load("quick", flags)


def test_one_repetition_is_refused_where_the_profile_asks_for_a_precision(tmp_path: Path) -> None:
    path = write(tmp_path, "crops = [64]\nprecision = 0.02\n")
    for given in (path, "thorough"):
        with pytest.raises(CellbenchError, match=r"toml:\d+ precision: one repetition has no spread"):
            config.load(given, {"repeats": 1})
    assert config.load(path, {"repeats": 2}).precision == 0.02
    assert config.load("quick", {"repeats": 1}).precision is None


def test_variants_have_one_spelling() -> None:
    loaded = config.load("quick", {"variants": ("stock", "plain+lossless", "batch=016")})
    assert loaded.variants == ("stock", "lossless+plain", "batch=16")


@pytest.mark.parametrize(
    ("text", "values"),
    [("224,full", (224, "full")), (" 8 , -3 ,", (8, -3)), ("cpu,cuda:1", ("cpu", "cuda:1")), ("", ()), (None, None)],
)
def test_split(text: str | None, values: object) -> None:
    assert config.split(text) == values


@pytest.mark.parametrize(
    "text",
    ["repeats = " + "9" * 5000, "crops = " + "[" * 5000, "crops = [64]\n#" + "x" * 2_000_000],
    ids=["digits", "depth", "length"],
)
def test_a_profile_that_would_break_the_reader(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(CellbenchError) as caught:
        config.load(str(path))
    assert str(path) in caught.value.where


@pytest.mark.parametrize("name", ["n" * 300, "~nobody-of-that-name/x.toml", "a\0b"])
def test_a_name_that_no_file_can_have(name: str) -> None:
    with pytest.raises(CellbenchError, match="no profile"):
        config.load(name)


def test_a_number_of_thousands_of_digits_in_a_flag() -> None:
    with pytest.raises(CellbenchError, match="--crops"):
        config.load("quick", {"crops": config.split("9" * 5000)})
