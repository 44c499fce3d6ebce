"""The corpus: cleaned, told apart by language, split by blocks; the same bytes for the same files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tinylm.conftest import english, spanish
from trainer_node.engines.tinylm import corpus, paragraphs, text_files
from trainer_node.engines.tinylm.corpus import prepare
from trainer_node.engines.tinylm.errors import CorpusInvalid

Write = Callable[[str, str | bytes | list[str]], Path]


def test_both_languages_are_in_both_parts_in_their_share(write: Write, tmp_path: Path):
    write("en.txt", english(800))
    folder = write("es/cuentos.txt", spanish(320)).parent.parent

    made = prepare([folder], tmp_path / "corpus", seed=1)

    shares = {one.code: (one.paragraphs, one.validation_paragraphs) for one in made.languages}
    assert shares == {"en": (800, 80), "es": (320, 32)}
    assert len(list(made.paragraphs("validation", "es"))) == 32
    assert len(list(made.paragraphs("train"))) == 720 + 288


def test_what_is_held_out_is_whole_blocks_and_nothing_is_lost_or_doubled(write: Write, tmp_path: Path):
    file = write("en.txt", english(330))

    made = prepare([file], tmp_path / "corpus", seed=5)

    held = list(made.paragraphs("validation"))
    places = [english(330).index(paragraph) for paragraph in held]
    assert {place // 16 for place in places} == {place // 16 for place in places if place % 16 == 0}
    assert len(places) == 32
    assert sorted([*held, *made.paragraphs("train")]) == sorted(english(330))


def test_the_seed_decides_what_is_held_out_and_nothing_else_does(write: Write, tmp_path: Path):
    file = write("en.txt", english(400))

    one, same, other = (
        prepare([file], tmp_path / name, seed=seed) for name, seed in (("one", 1), ("same", 1), ("other", 2))
    )

    assert one.digest == same.digest != other.digest
    assert corpus.held_out("en", 320, seed=1, fraction=0.1) == {*range(224, 240), *range(256, 272)}


def test_a_corpus_without_validation_has_all_its_text_in_training(write: Write, tmp_path: Path):
    made = prepare([write("en.txt", english(3))], tmp_path / "corpus", seed=1, validation_fraction=0)

    assert list(made.paragraphs("train")) == english(3)
    assert list(made.paragraphs("validation")) == []


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("en.txt", "en"), ("es-MX.txt", "es"), ("quijote.es.txt", "es"), ("es/quijote.txt", "es"),
        ("es/en/letters.txt", "en"), ("EN/a.TXT", "en"), ("my-notes.txt", "und"), ("book.text", "und"),
    ],
)  # fmt: skip
def test_a_file_or_folder_name_tells_the_language(write: Write, tmp_path: Path, name: str, language: str):
    write(name, english(1))

    [found] = text_files.find([tmp_path / "texts"])

    assert found.language == language


def test_the_names_alone_decide_the_order(write: Write, tmp_path: Path):
    for name in ("c.txt", "a/z.txt", "b.txt", ".hidden.txt", "a/.git/x.txt", "picture.png"):
        write(name, english(1))

    found = text_files.find([tmp_path / "texts"])

    assert [file.path.relative_to(tmp_path / "texts").as_posix() for file in found] == ["a/z.txt", "b.txt", "c.txt"]


def test_a_name_that_is_no_utf_8_does_no_harm(write: Write, tmp_path: Path):
    folder = write("en/a.txt", english(40)).parent
    (folder / "a.txt").rename(os.fsdecode(os.fsencode(folder) + b"/a\xf1o.txt"))
    write("en/b.txt", [*english(5), "x" * 9_000])

    made = prepare([folder], tmp_path / "corpus", seed=1)

    assert made.languages[0].files == 2
    assert text_files.find([folder])[0].name.endswith("/a\ufffdo.txt")


def test_links_in_a_circle_end_and_a_file_under_two_names_counts_once(write: Write, tmp_path: Path):
    folder = write("en/a.txt", english(40)).parent
    (folder / "again").symlink_to(tmp_path / "texts", target_is_directory=True)
    (folder / "copy.txt").symlink_to(folder / "a.txt")

    made = prepare([tmp_path / "texts"], tmp_path / "corpus", seed=1)

    assert made.languages[0].paragraphs == 40


def test_a_link_to_itself_is_named(tmp_path: Path):
    (tmp_path / "en.txt").symlink_to(tmp_path / "en.txt")

    with pytest.raises(CorpusInvalid, match=r"en\.txt cannot be read \(too many levels of symbolic links\)"):
        prepare([tmp_path], tmp_path / "corpus", seed=1)


def test_text_is_cleaned_and_composed(write: Write, tmp_path: Path):
    text = "\ufeffUn  nin\u0303o\tcon\u00a0 sed \r\n\r\n \x0b\n<s> \u2581 \x07fin\u200d\n"

    made = prepare([write("es.txt", text)], tmp_path / "corpus", seed=1, validation_fraction=0)

    assert list(made.paragraphs("train")) == ["Un niño con sed", "<s> _ fin\u200d"]


def test_wrapped_lines_become_paragraphs_and_one_line_paragraphs_stay(write: Write, tmp_path: Path):
    wrapped = "The river was high that\nyear, and so the mill\nstood still for weeks.\n\nNobody ate bread\nuntil May.\n"
    single = "Who is there? she asked.\n\nNobody, he said.\nNobody at all.\n"

    both = [
        prepare([write(name, text)], tmp_path / name, seed=1, validation_fraction=0)
        for name, text in (("w.txt", wrapped), ("s.txt", single))
    ]

    assert list(both[0].paragraphs("train")) == [
        "The river was high that year, and so the mill stood still for weeks.", "Nobody ate bread until May.",
    ]  # fmt: skip
    assert list(both[1].paragraphs("train")) == ["Who is there? she asked.", "Nobody, he said.", "Nobody at all."]
    assert "wrapped lines joined into 2 paragraphs" in both[0].notes[0]


def test_header_and_footer_of_a_downloaded_book_are_left_out(write: Write, tmp_path: Path):
    book = (
        "The Project Gutenberg EBook of A Tale\n\nThis eBook is for the use of anyone\n\n"
        "*** START OF THIS PROJECT GUTENBERG EBOOK A TALE ***\n\nProduced by Someone\nand the others\n\n"
        "[Illustration: A mill]\n\nThe river was _very_ high that\nyear, and the mill stood still.\n\n"
        "End of Project Gutenberg's A Tale, by Nobody\n\n*** END OF THIS PROJECT GUTENBERG EBOOK A TALE ***\nLicence\n"
    )

    made = prepare([write("tale.txt", book)], tmp_path / "corpus", seed=1, validation_fraction=0)

    assert list(made.paragraphs("train")) == ["The river was very high that year, and the mill stood still."]
    assert "header and footer" in made.notes[0]


def test_no_paragraph_is_longer_than_sentencepiece_reads_and_no_word_is_lost(write: Write, tmp_path: Path):
    long = " ".join(spanish(300))

    made = prepare([write("es.txt", long)], tmp_path / "corpus", seed=1, validation_fraction=0)

    parts = list(made.paragraphs("train"))
    assert " ".join(parts) == long
    assert max(len(part.encode()) for part in parts) <= paragraphs.LONGEST_BYTES
    assert all(part.endswith("por qué.") for part in parts)
    assert made.notes == (f"{tmp_path}/texts/es.txt: 1 paragraph above 4,000 bytes cut at sentence ends",)


@pytest.mark.parametrize("unit", ["a", "漢", "e\u0323\u0302x", "🙂"])
def test_text_without_spaces_is_cut_between_whole_characters(write: Write, tmp_path: Path, unit: str):
    made = prepare([write("zh.txt", unit * 70_000)], tmp_path / "corpus", seed=1, validation_fraction=0)

    parts = list(made.paragraphs("train"))
    assert "".join(parts) == paragraphs.clean(unit * 70_000)
    assert max(len(part.encode()) for part in parts) <= paragraphs.LONGEST_BYTES


def test_a_corpus_that_was_changed_or_half_written_does_not_count(write: Write, tmp_path: Path):
    made = prepare([write("en.txt", english(400))], tmp_path / "corpus", seed=1)
    made.path("train", "en").write_text("Other text.\n")

    with pytest.raises(CorpusInvalid, match=r"not whole \(.*train/en\.txt has other bytes.*\); prepare it again"):
        corpus.load(tmp_path / "corpus")


@pytest.mark.parametrize("unusable", [b"caf\xe9", b"", b"Too little.\n"], ids=["latin-1", "empty", "short"])
def test_preparing_again_leaves_what_was_there_until_the_new_text_is_known_to_be_usable(
    write: Write, tmp_path: Path, unusable: bytes
):
    made = prepare([write("en.txt", english(400))], tmp_path / "corpus", seed=1)

    with pytest.raises(CorpusInvalid):
        prepare([write("en.txt", unusable)], tmp_path / "corpus", seed=1)

    assert corpus.load(tmp_path / "corpus") == made
    assert {path.name for path in (tmp_path / "corpus").iterdir()} == {"corpus.json", "train", "validation"}


def test_preparing_again_leaves_nothing_of_what_was_there(write: Write, tmp_path: Path):
    prepare([write("en.txt", english(400)), write("es.txt", spanish(400))], tmp_path / "corpus", seed=1)

    made = prepare([write("es.txt", spanish(90))], tmp_path / "corpus", seed=1, validation_fraction=0)

    files = [path.relative_to(made.folder).as_posix() for path in made.folder.rglob("*") if path.is_file()]
    assert sorted(files) == ["corpus.json", "train/es.txt"]


def test_a_manifest_cannot_lead_out_of_its_folder(write: Write, tmp_path: Path):
    prepare([write("en.txt", english(400))], tmp_path / "corpus", seed=1)
    manifest = tmp_path / "corpus" / corpus.MANIFEST
    facts = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**facts, "files": {"../texts/en.txt": "0" * 64}}))

    with pytest.raises(CorpusInvalid, match="is missing"):
        corpus.load(tmp_path / "corpus")


def test_the_facts_of_the_sources_change_with_their_bytes_only(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = write("en.txt", english(2))
    before = corpus.source_facts([file])
    os.utime(file, (1, 1))
    monkeypatch.chdir(file.parent)
    touched = corpus.source_facts([Path(file.name)])

    write("en.txt", english(3))

    assert before == touched
    assert corpus.source_facts([file]) != before
