"""Local copies of raw files in a bucket, as in tests/data/test_data_local_copy.py, against the S3 server of these tests."""

from pathlib import Path

import pytest
from copied_bucket import Bucket
from prepkd.errors import InputError


def test_only_what_changed_is_fetched_again(s3: str, tmp_path: Path) -> None:
    bucket = Bucket(f"{s3}/{tmp_path.name}", tmp_path / "scratch")
    there = {"train/a/1.png": b"one", "train/b/2.png": b"two", "test/a/3.png": b"three"}
    for name, content in there.items():
        bucket.put(name, content)
    assert bucket.copied() == there and bucket.fetched == ["3 of 3"]
    assert bucket.copied() == there and bucket.fetched == []
    bucket.put("train/b/2.png", b"TWO")  # other content of the same size
    bucket.remove("test/a/3.png")
    assert bucket.copied() == {"train/a/1.png": b"one", "train/b/2.png": b"TWO"} and bucket.fetched == ["1 of 2"]


def test_a_bucket_that_is_not_there_is_one_line(s3: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        Bucket(f"{s3}-of-nobody/images", tmp_path).copied()
    assert str(caught.value).startswith("s3://bucket-of-nobody/images: ") and "\n" not in str(caught.value)


def test_an_object_that_is_a_folder_too_is_refused(s3: str, tmp_path: Path) -> None:
    there = Bucket(f"{s3}/{tmp_path.name}", tmp_path)
    there.put("a", b"one")
    there.put("a/b.png", b"two")
    with pytest.raises(InputError, match="is a file and a folder; expected one of them; rename one"):
        there.copied()
