"""Where a step finds artifacts of buckets that TensorFlow cannot open; with a real step: test_compile.py."""

import pytest

from kubeflow import entrypoint


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("minio://mlpipeline/v2/artifacts/a", "/minio/mlpipeline/v2/artifacts/a"),
        ("s3://shop/a/b", "/s3/shop/a/b"),
        ("gs://shop/a", "gs://shop/a"),
        ("/mnt/shop/a", "/mnt/shop/a"),
    ],
)
def test_a_uri_is_a_path_and_the_same_uri_again(uri, path):
    assert entrypoint.to_path(uri) == path
    assert entrypoint.to_url(path) == uri


def test_all_artifacts_of_an_invocation_are_changed():
    def artifacts(*uris):
        return {"artifacts": [{"uri": uri, "name": "1"} for uri in uris]}

    invocation = {
        "inputs": {"artifacts": {"a": artifacts("minio://b/1", "minio://b/2"), "c": artifacts("gs://b/3")}},
        "outputs": {"artifacts": {"d": artifacts("s3://b/4")}, "outputFile": "/tmp/x"},
    }
    assert entrypoint._replace_uris(invocation, entrypoint.to_path) == 3
    assert invocation == {
        "inputs": {"artifacts": {"a": artifacts("/minio/b/1", "/minio/b/2"), "c": artifacts("gs://b/3")}},
        "outputs": {"artifacts": {"d": artifacts("/s3/b/4")}, "outputFile": "/tmp/x"},
    }
    assert entrypoint._replace_uris({"inputs": {}}, entrypoint.to_path) == 0
