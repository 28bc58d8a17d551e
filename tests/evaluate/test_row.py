"""Rows: batches add up, and the worst and best samples are kept, and no others."""

import json

import numpy as np

from videolm.evaluate.estimate import estimate
from videolm.evaluate.row import Case, Row, Summary


def show(place: int) -> Case:
    return Case(f"place {place}", [])


def filled(shown: int, batch: int) -> tuple[Row, list[int]]:
    """Ten samples: 3 and 7 have two things wrong, 7 less path; 5 has one; the rest tie but for the path."""
    measures = {
        "shape": np.array([1, 1, 1, 0, 1, 0, 1, 0, 1, 1.0]),
        "motion": np.array([1, 1, 1, 0, 1, 1, 1, 0, 1, 1.0]),
        "all_right": np.array([1, 1, 1, 0, 1, 0, 1, 0, 1, 1.0]),
        "path_error": np.array([0.3, 0.1, 0.2, 0.9, 0.0, 0.5, 0.0, 0.8, 0.4, 0.6]),
    }
    row, asked = Row("conditions", shown), list[int]()

    def of(start: int, place: int) -> Case:
        asked.append(start + place)
        return show(start + place)

    for start in range(0, 10, batch):
        row.add(
            {name: values[start : start + batch] for name, values in measures.items()},
            lambda place, start=start: of(start, place),
        )
    return row, asked


def test_the_worst_have_most_wrong_and_the_best_least() -> None:
    for batch in (1, 3, 10):
        row, _ = filled(2, batch)
        found = [(case.place, case.sample, case.case.asked) for case in row.cases]
        assert found == [(p, s, f"place {s}") for p, s in (("worst", 3), ("worst", 7), ("best", 4), ("best", 6))]
        assert [case.wrong for case in row.cases] == [["shape", "motion"]] * 2 + [[], []]


def test_where_psnr_decides_the_lowest_is_the_worst() -> None:
    row = Row("tokenizer", 1)
    row.add({"shape": np.ones(3), "psnr": np.array([30.0, 20.0, 40.0])}, show)
    assert [case.sample for case in row.cases] == [1, 2]


def test_no_sample_is_shown_twice() -> None:
    for count, places in ((1, ["worst"]), (2, ["worst"] * 2), (3, ["worst"] * 2 + ["best"])):
        row = Row("prompts", 2)
        row.add({"shape": np.ones(count)}, show)
        assert [case.place for case in row.cases] == places
        assert len({case.sample for case in row.cases}) == count


def test_only_candidates_are_made_pictures_of() -> None:
    _, asked = filled(0, 3)
    assert not asked
    _, asked = filled(1, 10)
    assert len(asked) == len(set(asked)) < 10


def test_a_measure_that_a_batch_lacks_is_not_stated_there() -> None:
    row = Row("sound")
    row.add({"shape": np.array([1.0, 0.0])}, show)
    row.add({"shape": np.array([1.0]), "bounces": np.array([0.0])}, show)
    row.add({"shape": np.array([1.0]), "bounces": np.array([np.nan])}, show)
    assert len(row) == 4
    found = row.summary().measures
    assert found["shape"] == estimate([1, 0, 1, 1], share=True)
    assert found["bounces"] == estimate([0], share=True)
    assert row.scores() == {"shape": 0.75, "bounces": 0.0, "samples": 4}


def test_a_summary_survives_json() -> None:
    row, _ = filled(0, 4)
    row.whole = {"codes_used": 437.0}
    summary = row.summary()
    assert Summary.from_json(json.loads(json.dumps(summary.as_json()))) == summary
    assert summary.measures["codes_used"] == (437.0, None, None, 10)
    assert summary.measures["path_error"] == estimate(row.measures["path_error"], share=False)
