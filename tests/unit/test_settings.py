"""Where settings come from, which one wins, and that nothing secret is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from wheelyard.errors import SettingsError, UsageError
from wheelyard.settings import Settings, find_project, load_settings, redact
from wheelyard.system.urls import url_problem


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "images" / "deep").mkdir(parents=True)
    (folder / "matrix.yaml").write_text("{}")
    return folder


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config" / "config.toml"
    path.parent.mkdir()
    return path


def test_defaults(project: Path, tmp_path: Path) -> None:
    settings = load_settings({}, {}, project)
    assert settings.project == project
    assert (settings.index_url, settings.debian_mirror, settings.ca_bundle) == (None, None, None)
    assert settings.workers >= 1
    assert settings.timeout == 60
    assert settings.cache_dir.name == "wheelyard"


def test_option_wins_over_environment_over_config(project: Path, config: Path) -> None:
    config.write_text('index-url = "http://c"\nworkers = 3\ntimeout = 1.5\n')
    environ = {
        "WHEELYARD_CONFIG": str(config),
        "WHEELYARD_INDEX_URL": "http://e",
        "WHEELYARD_WORKERS": "2",
    }
    settings = load_settings({"index_url": "http://o", "workers": None}, environ, project)
    assert (settings.index_url, settings.workers, settings.timeout) == ("http://o", 2, 1.5)


def test_config_file_in_the_user_folder(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "wheelyard").mkdir()
    (tmp_path / "wheelyard" / "config.toml").write_text("workers = 7")
    assert load_settings({}, {}, project).workers == 7


@pytest.mark.parametrize(
    "text",
    ["no", "https://s.example/@PATH@/@SNAPSHOTID@/", "https://s.example/debian/@SNAPSHOTID@"],
)
def test_a_snapshot_is_a_pattern(project: Path, text: str) -> None:
    assert load_settings({"debian_snapshot": text}, {}, project).debian_snapshot == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("https://s.example/debian/", "@SNAPSHOTID@"),
        ("https://anna:s3cret@s.example/@SNAPSHOTID@/", "@PATH@"),
        ("ftp://s.example/@PATH@/@SNAPSHOTID@/", "starts with http://"),
    ],
)
def test_what_is_no_pattern_of_a_snapshot(project: Path, text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says) as caught:
        load_settings({}, {"WHEELYARD_DEBIAN_SNAPSHOT": text}, project)
    assert "WHEELYARD_DEBIAN_SNAPSHOT" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_empty_variable_counts_as_not_set(project: Path) -> None:
    environ = {"WHEELYARD_INDEX_URL": "", "WHEELYARD_CONFIG": "", "WHEELYARD_WORKERS": ""}
    assert load_settings({}, environ, project).index_url is None


def test_paths_start_where_they_were_written(project: Path, config: Path) -> None:
    config.write_text('cache-dir = "c"')
    environ = {"WHEELYARD_CONFIG": str(config)}
    assert load_settings({}, environ, project).cache_dir == config.parent / "c"
    assert load_settings({"cache_dir": "o"}, environ, project).cache_dir == project / "o"


def test_every_problem_is_reported_at_once(project: Path, config: Path) -> None:
    config.write_text('index-ur = "http://x"\nnonsense = 1\ntimeout = "soon"\nca-bundle = true\n')
    environ = {"WHEELYARD_CONFIG": str(config), "WHEELYARD_DEBIAN_MIRROR": "ftp://mirror/debian"}
    with pytest.raises(SettingsError) as caught:
        load_settings({"workers": "0"}, environ, project)
    message = str(caught.value)
    assert "unknown key 'index-ur'; did you mean index-url?" in message
    assert "unknown key 'nonsense'; known keys: index-url" in message
    assert f"timeout in {config}: 'soon' is not a number of seconds above 0" in message
    assert "ca-bundle must be a text or a number" in message
    assert "--workers: '0' is not a whole number" in message
    assert "WHEELYARD_DEBIAN_MIRROR: 'ftp://mirror/debian' is not a URL that starts with" in message
    assert message.startswith("6 setting(s)")


@pytest.mark.parametrize("text", ["nan", "inf", "0", "-1", "ten"])
def test_timeouts_that_mean_nothing(project: Path, text: str) -> None:
    with pytest.raises(SettingsError, match="--timeout"):
        load_settings({"timeout": text}, {}, project)


def test_config_file_that_is_not_toml(project: Path, config: Path) -> None:
    config.write_text("index-url = \n")
    with pytest.raises(SettingsError, match=r"not valid TOML.*line 1"):
        load_settings({}, {"WHEELYARD_CONFIG": str(config)}, project)


def test_named_config_file_must_exist(project: Path, config: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        load_settings({}, {"WHEELYARD_CONFIG": str(config)}, project)


def test_ca_bundle_must_hold_a_certificate(project: Path, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.pem", tmp_path / "bad.pem"
    trustme.CA().cert_pem.write_to_path(str(good))
    bad.write_text("not a certificate")
    assert load_settings({"ca_bundle": str(good)}, {}, project).ca_bundle == good
    with pytest.raises(SettingsError, match=r"bad\.pem holds no certificate in PEM form"):
        load_settings({"ca_bundle": str(bad)}, {}, project)
    with pytest.raises(SettingsError, match=r"gone\.pem cannot be read: No such file"):
        load_settings({"ca_bundle": str(tmp_path / "gone.pem")}, {}, project)


def test_cache_folder_that_is_a_file(project: Path) -> None:
    with pytest.raises(SettingsError, match="is not a folder"):
        load_settings({"cache_dir": str(project / "matrix.yaml")}, {}, project)


def test_project_is_the_nearest_folder_above(project: Path, tmp_path: Path) -> None:
    assert find_project(project / "images" / "deep") == project
    assert find_project(tmp_path, "project") == project
    with pytest.raises(UsageError, match=r"no matrix\.yaml in .* name it with --project"):
        find_project(tmp_path)
    with pytest.raises(UsageError, match=r"--project images: .* has no matrix\.yaml"):
        find_project(project, "images")


def test_elsewhere_the_project_is_the_one_that_came_along_and_is_not_written(
    tmp_path: Path,
) -> None:
    ours = load_settings({}, {}, tmp_path)
    assert (ours.project, ours.packaged) == (Path(__file__).parents[2], True)
    with pytest.raises(UsageError, match="is read-only"):
        ours.require_own("`lock`")
    assert not load_settings({}, {}, ours.project).packaged
    assert not load_settings({"project": str(ours.project)}, {}, tmp_path).packaged


SECRET_URLS = [
    "https://user:s3cret@mirror/simple",
    "https://s3cret@mirror/simple",
    "https://user:s3/cret@mirror/simple",
    "https://user:s3?cret@mirror/simple",
    "https://user:p@s3cret@mirror/simple",
    "https://mirror/simple?token=s3cret",
    "HTTP://user:s3cret@[::1/simple",
    "ftp://user:s3cret@mirror",
    "https://user:s3cret@mir ror/simple",
]


@pytest.mark.parametrize("url", SECRET_URLS)
def test_credentials_are_never_shown(url: str, project: Path) -> None:
    assert "s3cret" not in redact(url)
    assert "cret" not in redact(url)
    assert "s3cret" not in str(url_problem(url))
    try:
        shown = repr(load_settings({"index_url": url}, {}, project))
    except SettingsError as error:
        shown = str(error)
    assert "cret" not in shown
    assert "index" in shown


def test_redact_leaves_the_rest_alone() -> None:
    url = "https://mirror:8080/@scope/a.whl#sha256=1"
    assert redact(url) == url
    assert redact("https://u:p@mirror/a?x=1#f") == "https://***@mirror/a?***#f"


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "https:///simple",
        "mirror/simple",
        "file://host/x",
        "file:x",
        "http://a:b/",
        "",
        "http://a\n",
    ],
)
def test_urls_that_cannot_be_used(url: str) -> None:
    assert url_problem(url)


@pytest.mark.parametrize(
    "url", ["http://h", "https://u:p@h:1/x", "file:///x", "file://localhost/x"]
)
def test_urls_that_can_be_used(url: str) -> None:
    assert url_problem(url) is None


def test_settings_are_frozen(project: Path) -> None:
    settings: Settings = load_settings({}, {}, project)
    with pytest.raises(AttributeError):
        settings.workers = 3  # type: ignore[misc]
