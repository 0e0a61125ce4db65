"""Names of images: what may be left out, and which part is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.oci import InvalidReference, Reference

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("oci://registry.lab/plugins/mock:1.0.0", ("registry.lab", "plugins/mock", "1.0.0", None)),
        ("registry.lab/plugins/mock", ("registry.lab", "plugins/mock", "latest", None)),
        ("127.0.0.1:5000/mock", ("127.0.0.1:5000", "mock", "latest", None)),
        ("[::1]:5000/mock:v1", ("[::1]:5000", "mock", "v1", None)),
        ("localhost/a/b", ("localhost", "a/b", "latest", None)),
        ("nginx", ("docker.io", "library/nginx", "latest", None)),
        ("nginx:1.27", ("docker.io", "library/nginx", "1.27", None)),
        ("higress/mock", ("docker.io", "higress/mock", "latest", None)),
        ("index.docker.io/higress/mock", ("docker.io", "higress/mock", "latest", None)),
        (f"registry.lab/mock@{DIGEST}", ("registry.lab", "mock", None, DIGEST)),
        (f"registry.lab/mock:1@{DIGEST}", ("registry.lab", "mock", "1", DIGEST)),
    ],
)
def test_parts(text: str, expected: tuple[str | None, ...]):
    reference = Reference.parse(text)
    assert (reference.registry, reference.repository, reference.tag, reference.digest) == expected
    assert Reference.parse(str(reference)) == reference == Reference.parse(reference.url)
    assert reference.target == (reference.digest or reference.tag)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("oci://", "empty"),
        ("http://registry.lab/mock", "http:// is no scheme"),
        ("registry.lab/Mock", "'Mock' has capital letters"),
        ("registry.lab/a//b", "empty"),
        ("registry.lab/a/../b", "'..' is no part"),
        ("registry.lab/a b", "'a b' is no part"),
        ("registry.lab/mock:", "'' is no tag"),
        ("registry.lab/mock:a b", "'a b' is no tag"),
        ("registry.lab/mock:" + "x" * 129, "is no tag"),
        ("registry.lab/mock@sha256:12", "'sha256:12' is no digest"),
        ("registry.lab/mock@", "'' is no digest"),
        ("registry.lab:99999/mock", "no registry host"),
        ("registry.lab:x/mock", "no registry host"),
        ("reg_istry.lab/mock", "no registry host"),
        ("registry.lab/" + "a" * 256, "longer than 255"),
    ],
)
def test_the_wrong_part_is_named(text: str, problem: str):
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)
    assert problem in str(caught.value)
    assert "oci://registry.lab/plugins/mock:1.0.0" in (caught.value.hint or "")


@given(st.text(alphabet="ab./:@[]-_oci0sha256\n é", max_size=60))
def test_any_text_is_a_reference_that_can_be_written_down_or_an_error(text: str):
    try:
        reference = Reference.parse(text)
    except InvalidReference:
        return
    assert Reference.parse(str(reference)) == reference
