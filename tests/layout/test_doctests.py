"""The worked examples in docstrings are true."""

import doctest
import importlib


def test_examples(doctested: str) -> None:
    """By its true name: `pytest --doctest-modules` would import `tokenizers/` under another."""
    module = importlib.import_module(doctested)
    # As typed at a prompt: with postponed annotations pydantic looks in the file for an example's classes.
    names = {name: value for name, value in vars(module).items() if name != "annotations"}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    report: list[str] = []
    for example in doctest.DocTestFinder().find(module, doctested, globs=names):
        runner.run(example, out=report.append)
    assert not runner.failures, "".join(report)
