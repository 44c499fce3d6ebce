from __future__ import annotations

import hashlib

import pytest

from tests.cli.plane_state import RUN
from tunesmith.client import transfer
from tunesmith.client.errors import ApiError, DownloadCorrupt
from tunesmith.client.transfer import download_blob, pull_adapter, upload_blob, upload_missing
from tunesmith.v1 import run_pb2

DATA = bytes(range(256)) * 5


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(transfer, "CHUNK_BYTES", 100)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "clip.wav"
    path.write_bytes(DATA)
    return path


def test_an_interrupted_upload_goes_on_where_it_stopped(fake, client, file):
    fake.state.cuts["upload"] = [3, 1, 5]

    answer = upload_blob(client, file)

    assert answer.size_bytes == len(DATA)
    assert fake.state.blobs[answer.digest] == DATA


def test_a_file_that_changes_while_it_is_sent_is_named(client, file):
    digest = hashlib.sha256(b"what it was").hexdigest()

    with pytest.raises(ApiError, match=r"clip\.wav changed while it was sent; do it again") as refused:
        upload_blob(client, file, digest=digest)

    assert refused.value.reason == "BLOB_CORRUPT"


def test_an_empty_file_is_uploaded(fake, client, tmp_path):
    (tmp_path / "empty").touch()

    answer = upload_blob(client, tmp_path / "empty")

    assert fake.state.blobs == {hashlib.sha256().hexdigest(): b""}
    assert answer.size_bytes == 0


def test_only_what_is_missing_is_uploaded_and_each_file_once(fake, client, file, tmp_path):
    known = tmp_path / "known"
    known.write_bytes(b"known")
    files = {fake.add_blob(b"known"): known, hashlib.sha256(DATA).hexdigest(): file}
    told = []

    count = upload_missing(client, files, on_file=lambda *told_now: told.append(told_now))

    assert count == 1
    assert [told_now[1:] for told_now in told] == [(0, 1)]


def test_an_interrupted_download_goes_on_and_is_checked(fake, client, tmp_path):
    digest = fake.add_blob(DATA)
    fake.state.cuts["download"] = [10, 0, 100]

    path = download_blob(client, digest, tmp_path / "a" / "b.wav")

    assert path.read_bytes() == DATA
    assert [request.offset for request in fake.state.requests] == [0, 40, 40, 440]
    assert [entry.name for entry in path.parent.iterdir()] == ["b.wav"]


def test_a_download_that_was_killed_goes_on_in_the_next_process(fake, client, tmp_path):
    digest = fake.add_blob(DATA)
    (tmp_path / f".b.wav.{digest[:16]}.part").write_bytes(DATA[:400])

    download_blob(client, digest, tmp_path / "b.wav")

    assert fake.state.requests[0].offset == 400


def test_a_download_killed_before_its_renaming_asks_for_nothing(fake, client, tmp_path):
    digest = fake.add_blob(DATA)
    (tmp_path / f".b.wav.{digest[:16]}.part").write_bytes(DATA)

    assert download_blob(client, digest, tmp_path / "b.wav").read_bytes() == DATA
    assert fake.state.requests == []


def test_a_spoilt_part_is_thrown_away_and_read_anew(fake, client, tmp_path):
    digest = fake.add_blob(DATA)
    (tmp_path / f".b.wav.{digest[:16]}.part").write_bytes(b"x" * 400)

    assert download_blob(client, digest, tmp_path / "b.wav").read_bytes() == DATA
    assert [request.offset for request in fake.state.requests] == [400, 0]


def test_a_blob_that_arrives_wrong_twice_never_becomes_a_file(fake, client, tmp_path):
    digest = fake.add_blob(DATA)
    fake.state.blobs[digest] = DATA[:-4] + b"oops"

    with pytest.raises(DownloadCorrupt):
        download_blob(client, digest, tmp_path / "b.wav")

    assert list(tmp_path.iterdir()) == []


def test_an_adapter_is_pulled_whole_through_cuts(fake, client, tmp_path):
    adapter = fake.add_adapter(adapter_config_json=b"{}", empty_txt=b"", weights_bin=DATA)
    fake.state.cuts["adapter"] = [0, 2, 30]

    pulled = pull_adapter(client, adapter, tmp_path / "out")

    assert [path.name for path in pulled] == [file.path for file in adapter.files]
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
        file.path: fake.state.blobs[file.digest] for file in adapter.files
    }


def test_an_adapter_that_names_a_file_outside_its_folder_is_refused(fake, client, tmp_path):
    adapter = fake.add_adapter(good=b"x")
    adapter.files[0].path = "../evil"

    with pytest.raises(ApiError, match="outside its folder"):
        pull_adapter(client, adapter, tmp_path / "out")

    assert not (tmp_path / "evil").exists()


def test_pull_prints_the_paths(cli, fake, tmp_path):
    fake.add_adapter(version=3, good=b"x")

    result = cli("adapter", "pull", "piano@3", str(tmp_path / "out"))

    assert result.out == f"{tmp_path}/out/good\n"
    assert (tmp_path / "out" / "good").read_bytes() == b"x"


def test_previews_get_names_that_say_what_they_are(fake, client, tmp_path):
    from services.cli.previews import fetch_previews

    digest = fake.add_blob(b"RIFF")
    long = "a piano that goes on and on and never comes to an end"
    previews = [
        run_pb2.Preview(run_id=RUN, step=step, prompt=prompt, file={"path": "x.wav", "digest": digest})
        for step, prompt in ((0, "A calm Piano, slow!"), (96, "Drums"), (97, long), (98, "…"), (99, "x" * 50))
    ]

    paths = fetch_previews(client, previews, tmp_path)

    assert [path.name for path in paths.values()] == [
        "prompt0-a-calm-piano-slow-base.wav",
        "prompt0-drums-step000096.wav",
        "prompt0-a-piano-that-goes-on-and-on-and-never-step000097.wav",
        "prompt0-preview-step000098.wav",
        f"prompt0-{'x' * 40}-step000099.wav",
    ]


def test_a_connection_that_stays_away_ends_a_transfer(nobody, file, monkeypatch):
    from tunesmith.client.client import Client

    monkeypatch.setattr(transfer, "GIVE_UP_S", 0.0)

    with Client(nobody) as client, pytest.raises(ApiError) as caught:
        upload_blob(client, file)

    assert caught.value.reason == "UNREACHABLE"
