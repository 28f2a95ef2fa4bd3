"""A look at a folder sees what the runs will see."""

import pytest

from ctrak_jax.data import read_folder
from ctrak_jax.errors import UsageError
from ctrak_jax.start.look import look
from tests.data.wild import CASES, Numbering

AT = Numbering(21, "photo {}")


@pytest.mark.parametrize("make", CASES.values(), ids=CASES.keys())
def test_a_look_sees_what_a_run_reads_or_refuses(tmp_path, make):
    make(tmp_path, AT)
    expected = None
    try:
        raw = read_folder(tmp_path)
    except UsageError as error:
        expected, raw = str(error), None
    if raw is None:
        with pytest.raises(UsageError) as caught:
            look(tmp_path)
        assert str(caught.value) == expected
        return
    facts = look(tmp_path)
    assert {column.name: column.values for column in facts.columns} == raw.attributes
    assert facts.captions == raw.prompts
    assert facts.sizes == {(24, 24): len(raw.images)}
