"""DataQualityGate: stops the run when ExampleValidator found anomalies."""
