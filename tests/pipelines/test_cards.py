"""Cards say what everybody may know, the Hub's own tools read them, and a push sends nothing else."""

from __future__ import annotations

import pytest
from huggingface_hub import DatasetCard
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

from countermark.errors import IntegrityError, SuspectUnreachableError, UnsafePermissionsError, UsageError
from countermark.manifest import write_manifest
from pipelines.cards import dataset_card, push, size_category

FEATURES = {"id": "a number", "text": "a review | in English", "label": "`negative` or `positive`"}
GIVEN = {
    "name": "Film: reviews\n--- made",
    "license": "cc-by-4.0",
    "language": "no",
    "task": "text-classification",
    "rows": 1200,
    "features": FEATURES,
    "watermarked": None,
    "extra": {"tags": ["synthetic", "review: film"]},
}


@pytest.mark.parametrize(
    ("rows", "bucket"),
    [
        (0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (9999, "1K<n<10K"), (10_000, "10K<n<100K"),
        (100_000, "100K<n<1M"), (10**6, "1M<n<10M"), (10**7, "10M<n<100M"), (10**8, "100M<n<1B"), (10**9, "1B<n<10B"),
        (10**10, "10B<n<100B"), (10**12 - 1, "100B<n<1T"), (10**12, "n>1T"),
    ],
)  # fmt: skip
def test_buckets_are_the_hubs(rows, bucket):
    assert size_category(rows) == bucket


def test_a_negative_size_is_none():
    with pytest.raises(UsageError, match="got -1 rows"):
        size_category(-1)


def test_the_hub_reads_what_was_said():
    card = DatasetCard(dataset_card(**GIVEN))
    assert card.data.to_dict() == {
        "language": "no",
        "license": "cc-by-4.0",
        "task_categories": ["text-classification"],
        "size_categories": ["1K<n<10K"],
        "pretty_name": "Film: reviews --- made",
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}],
        "tags": ["synthetic", "review: film"],
    }
    assert "1,200 rows" in card.text
    assert "| `text` | a review \\| in English |" in card.text
    assert dataset_card(**GIVEN) == str(card)


def test_a_watermark_is_named_only_in_the_owners_words():
    assert "watermark" not in dataset_card(**GIVEN).casefold()
    said = "The rows carry a watermark;\nask the authors."
    assert "The rows carry a watermark; ask the authors." in dataset_card(**{**GIVEN, "watermarked": said})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"extra": {"license": "mit", "configs": []}}, "got configs, license"),
        ({"watermarked": "Marked with ck_00ff00ff00ff00ff."}, "names the key 'ck_00ff00ff00ff00ff'"),
        ({"extra": {"tags": ["ck_00ff00ff00ff00ff"]}}, "names the key"),
    ],
)
def test_what_no_card_may_say(given, said):
    with pytest.raises(UsageError, match=said):
        dataset_card(**{**GIVEN, **given})


class Hub:
    """Stands in for HfApi: keeps what it is told, and may fail at it."""

    def __init__(self, error=None):
        self.told, self.error = [], error

    def create_repo(self, repo, **how):
        self.told.append(("create", repo, how))
        return f"https://hub.test/datasets/{repo}"

    def upload_folder(self, **how):
        if self.error:
            raise self.error
        self.told.append(("upload", how.pop("repo_id"), how))


@pytest.fixture
def release(tmp_path):
    folder = tmp_path / "release"
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text(dataset_card(**GIVEN))
    (folder / "data" / "train-00000-of-00001.parquet").write_bytes(b"PAR1")
    (folder / "notes.txt").write_text("for the owner")
    write_manifest(folder, {"commitment": "00"})
    return folder


def test_a_push_sends_card_and_shards_and_nothing_else(release, tmp_path):
    from huggingface_hub.utils import filter_repo_objects

    token = tmp_path / "token"
    token.write_text("hf_secret\n")
    token.chmod(0o600)
    hub = Hub()
    assert push(release, "org/name", private=True, token_file=token, api=hub) == "https://hub.test/datasets/org/name"
    (_, repo, created), (_, uploaded_to, uploaded) = hub.told
    assert repo == uploaded_to == "org/name"
    assert created == {"repo_type": "dataset", "private": True, "exist_ok": True, "token": "hf_secret"}
    assert (uploaded["repo_type"], uploaded["folder_path"], uploaded["token"]) == ("dataset", release, "hf_secret")
    assert uploaded["delete_patterns"] == ["data/train-*.parquet"]
    assert "mark" not in uploaded["commit_message"].casefold()
    names = [path.relative_to(release).as_posix() for path in sorted(release.rglob("*"))]
    sent = set(filter_repo_objects(names, allow_patterns=uploaded["allow_patterns"]))
    assert sent == {"README.md", "data/train-00000-of-00001.parquet"}
    push(release, "org/name", private=False, token_file=None, manifest=True, api=hub)
    assert hub.told[2][2]["token"] is None
    assert "manifest.json" in hub.told[3][2]["allow_patterns"]


def _status(code):
    from httpx2 import Request, Response

    response = Response(code, request=Request("POST", "https://hub.test"))
    return HfHubHTTPError("Bearer hf_secret", response=response)


@pytest.mark.parametrize(
    ("error", "ours", "said"),
    [
        (_status(403), UsageError, "got status 403"),
        (_status(404), UsageError, "got status 404"),
        (_status(422), UsageError, "got status 422"),
        (_status(503), SuspectUnreachableError, "no answer from the Hub"),
        (OfflineModeIsEnabled("off"), SuspectUnreachableError, "OfflineModeIsEnabled"),
        (TimeoutError("slow, Bearer hf_secret"), SuspectUnreachableError, "TimeoutError"),
        (HFValidationError("bad"), UsageError, "org/name"),
        (KeyError("a bug"), KeyError, "a bug"),
    ],
)
def test_failures_are_two_lines_without_the_token(release, error, ours, said):
    with pytest.raises(ours, match=said) as caught:
        push(release, "org/name", private=True, token_file=None, api=Hub(error))
    if ours is not KeyError:
        assert len(caught.value.diagnostics().splitlines()) == 2
        assert "hf_secret" not in caught.value.diagnostics()


def test_only_a_whole_release_is_pushed(release, tmp_path):
    hub = Hub()
    with pytest.raises(IntegrityError, match="expected one"):
        push(tmp_path, "org/name", private=True, token_file=None, api=hub)
    (release / "data" / "train-00000-of-00001.parquet").write_bytes(b"PAR2")
    with pytest.raises(IntegrityError, match="is damaged"):
        push(release, "org/name", private=True, token_file=None, api=hub)
    bare = tmp_path / "bare"
    bare.mkdir()
    write_manifest(bare, {})
    with pytest.raises(UsageError, match=r"without README\.md"):
        push(bare, "org/name", private=True, token_file=None, api=hub)
    assert not hub.told


def test_a_token_that_others_may_read_is_refused(release, tmp_path):
    token = tmp_path / "token"
    token.write_text("hf_secret\n")
    token.chmod(0o644)
    with pytest.raises(UnsafePermissionsError):
        push(release, "org/name", private=True, token_file=token, api=Hub())
    with pytest.raises(UsageError, match="expected a file with an access token"):
        push(release, "org/name", private=True, token_file=tmp_path / "none", api=Hub())
