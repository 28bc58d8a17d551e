"""The vocabulary: disjoint ranges of the paper's sizes, and special ids that never move."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videolm.config import parse
from videolm.errors import UserError
from videolm.vocabulary import STRUCTURE, Vocabulary

NAMES = st.lists(st.sampled_from([f"<{c}>" for c in "abcdefgh"]), max_size=6)


def ranges(vocabulary: Vocabulary) -> list[range]:
    """All ranges in the order of their ids."""
    return [vocabulary.special, vocabulary.visual, *(vocabulary.audio(q) for q in range(vocabulary.audio_levels))]


def test_paper_sizes() -> None:
    """VideoPoet 3.2: 256 special ids, 2^18 visual codes, four levels of 1,024 audio codes."""
    v = Vocabulary()
    assert v.special == range(256) and v.visual == range(256, 262400)
    assert [v.audio(q).start for q in range(4)] == [262400, 263424, 264448, 265472]
    assert v.size == 266496 == v.audio(3).stop


def test_structural_tokens_have_the_first_ids() -> None:
    assert [Vocabulary().id(name) for name in STRUCTURE] == list(range(13))
    assert STRUCTURE[:2] == ("<bos>", "<eos>") and STRUCTURE[-1] == "<empty>"


@given(
    special=st.integers(32, 500),
    visual=st.integers(2, 2**20),
    levels=st.integers(0, 8),
    audio=st.integers(2, 4096),
)
def test_ranges_are_disjoint_and_cover_every_id(special: int, visual: int, levels: int, audio: int) -> None:
    v = Vocabulary(special_size=special, visual_size=visual, audio_levels=levels, audio_size=audio)
    stop = 0
    for part in ranges(v):
        assert part.start == stop and len(part) > 0
        stop = part.stop
    assert stop == v.size
    assert [len(part) for part in ranges(v)] == [special, visual, *[audio] * levels]


@given(first=NAMES, second=NAMES)
def test_new_specials_are_appended_and_old_ids_stay(first: list[str], second: list[str]) -> None:
    before = Vocabulary().with_specials(first)
    after = before.with_specials(second)
    assert after.specials[: len(before.specials)] == before.specials
    assert set(after.specials) == set(STRUCTURE) | {*first, *second}
    assert len(set(after.specials)) == len(after.specials)
    assert (after.special, after.visual, after.size) == (before.special, before.visual, before.size)
    assert after.with_specials(second) == after


def test_with_specials_leaves_the_vocabulary_as_it_was() -> None:
    v = Vocabulary()
    assert v.with_specials(["<task:video>"]).id("<task:video>") == 13
    assert v == Vocabulary() and "<task:video>" not in v.specials


def test_reserved_ids_run_out() -> None:
    v = Vocabulary(special_size=32)
    full = v.with_specials(f"<{n}>" for n in range(32 - len(STRUCTURE)))
    assert len(full.specials) == 32
    with pytest.raises(UserError, match="1 new special tokens do not fit: 0 ids are left"):
        full.with_specials(["<one more>"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"specials": ["<eos>", "<bos>"]}, "must begin with the structural tokens"),
        ({"specials": [*STRUCTURE, "<a>", "<a>"]}, "named twice"),
        ({"special_size": 32, "specials": [*STRUCTURE, *(f"<{n}>" for n in range(30))]}, "do not fit into 32 ids"),
        ({"special_size": 8}, "special_size"),
        ({"visual": 10}, "unknown key 'visual'; did you mean 'visual_size'"),
    ],
)
def test_a_vocabulary_that_cannot_be(settings: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse(Vocabulary, settings)


def test_an_unknown_special_token_gets_the_nearest_one() -> None:
    with pytest.raises(UserError, match="unknown special token '<task:vdeo>'; did you mean '<task:video>'"):
        Vocabulary().with_specials(["<task:video>"]).id("<task:vdeo>")


@pytest.mark.parametrize("level", [-1, 4])
def test_an_audio_level_that_is_not_there(level: int) -> None:
    with pytest.raises(UserError, match=f"audio level {level} does not exist; this vocabulary has 4"):
        Vocabulary().audio(level)


def test_saved_and_read_back_equal() -> None:
    v = Vocabulary(visual_size=4096, audio_levels=0).with_specials(["<task:video>", "<res:128x224>"])
    assert Vocabulary.model_validate_json(v.model_dump_json()) == v


def test_the_video_tokenizer_must_have_just_the_visual_codes() -> None:
    v = Vocabulary(visual_size=4096)
    v.check_codebook(4096)
    for size in (4095, 2**18):
        with pytest.raises(UserError, match=f"the video tokenizer has {size} codes but the vocabulary 4096"):
            v.check_codebook(size)
