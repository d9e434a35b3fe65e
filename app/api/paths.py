"""The names in paths; their examples exist on a demo server (`forerank demo --keep`)."""

from typing import Annotated

from fastapi import Path

DatasetPath = Annotated[str, Path(description="Id or name of a data set.", examples=["digits"])]
ModelPath = Annotated[str, Path(description="Id or name of a model.", examples=["mobilenetv2_100.tv_in1k"])]
ZooPath = Annotated[str, Path(description="Id or name of a zoo.", examples=["offline"])]
RankingPath = Annotated[str, Path(description="Id or name of a ranking.", examples=["demo"])]
MetricPath = Annotated[str, Path(description="Name of a metric.", examples=["leep"])]
WebhookPath = Annotated[str, Path(description="Id or name of a webhook.", examples=["morning"])]
DeliveryPath = Annotated[str, Path(description="Id of a delivery, as in the header `webhook-id`.")]
SchedulePath = Annotated[str, Path(description="Id or name of a schedule.", examples=["nightly"])]
RunPath = Annotated[str, Path(description="Id of a run, or `latest`.", examples=["latest"])]
RetentionPath = Annotated[str, Path(description="Id of a run of retention, or `latest`.", examples=["latest"])]
FineTuningPath = Annotated[str, Path(description="Id or name of a fine-tuning.", examples=["tuned"])]
