"""Folders as people have them: every picture comes with what belongs to it, or one line says why
not."""

import numpy as np
import pytest

from ctrak_jax.data import read_folder
from ctrak_jax.errors import UsageError
from tests.data.wild import CASES, Numbering, Row, number

NUMBERINGS = {
    "numbers": Numbering(12),
    "from one": Numbering(21, "{}", first=1),
    "photographs": Numbering(14, "photo {} (copy)"),
    "with zeros": Numbering(11, "IMG_{:04d}"),
    "letters with marks": Numbering(12, "Größe-{}é"),
}


@pytest.mark.parametrize("at", NUMBERINGS.values(), ids=NUMBERINGS.keys())
@pytest.mark.parametrize("make", CASES.values(), ids=CASES.keys())
def test_a_folder_is_read_as_it_is_meant(tmp_path, make, at, warned):
    expected = make(tmp_path, at)
    if isinstance(expected, str):
        with pytest.raises(UsageError) as caught:
            read_folder(tmp_path)
        message = str(caught.value)
        assert message.splitlines() == [message]
        assert expected in message
        return
    raw = read_folder(tmp_path)
    assert not warned, "every file is read, or holds no labels"
    found = [
        Row(
            number(image),
            {name: column[row] for name, column in raw.attributes.items()},
            raw.prompts[row] if raw.prompts else None,
        )
        for row, image in enumerate(np.asarray(raw.images[:]))
    ]
    assert sorted(found, key=lambda row: row.n) == expected
