"""A pipeline of a few real components that runs in seconds, through Shelfwise's runner.

It is a file as `tfx pipeline create --engine=local` wants it, and a command like
`python -m pipeline.local_runner`.
"""

import os
import sys
from pathlib import Path

from pipeline.local_runner import main


def create_pipeline(config, pipeline_root, metadata_path, serving_dir):
    import tiny_components
    from tfx import v1 as tfx

    rows = tiny_components.Rows(count=1000)
    csv = tfx.components.CsvExampleGen(input_base=os.environ["TINY_CSV"])
    statistics = tfx.components.StatisticsGen(examples=csv.outputs["examples"])
    schema = tfx.components.ImportSchemaGen(
        schema_file=str(Path(os.environ["TINY_CSV"]).parent / "schema.pbtxt")
    )
    validator = tfx.components.ExampleValidator(
        statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]
    )
    fragile = tiny_components.Fragile(table=rows.outputs["table"])
    resolver = tfx.dsl.Resolver(
        strategy_class=tfx.dsl.experimental.LatestArtifactStrategy,
        schema=tfx.dsl.Channel(type=tfx.types.standard_artifacts.Schema),
    ).with_id("LatestSchema")
    evaluator = tiny_components.FunnelEvaluator(model=fragile.outputs["model"])
    pusher = tfx.components.Pusher(
        model=fragile.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        push_destination=tfx.proto.PushDestination(
            filesystem=tfx.proto.PushDestination.Filesystem(base_directory=serving_dir)
        ),
    )
    return tfx.dsl.Pipeline(
        pipeline_name=config.name,
        pipeline_root=pipeline_root,
        metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
            metadata_path
        ),
        components=[rows, csv, statistics, schema, validator, resolver, fragile, evaluator, pusher],
        enable_cache=True,
    )


if __name__ == "__main__":
    sys.exit(main(create_pipeline=create_pipeline))
