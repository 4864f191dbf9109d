"""The shape of a pipeline's manifest.toml: what may be written where."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr

from orchestrator.domain.pipeline import Count, GpuUse, InputKind, Standing
from orchestrator.domain.queue import Lane
from orchestrator.domain.review import Verdict

Name = Annotated[StrictStr, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Coded = Annotated[StrictStr, Field(pattern=r"^[A-Z0-9_]{1,16}:[^\s:]{1,64}$")]
Sentence = Annotated[StrictStr, Field(min_length=1, max_length=2000)]
SEMANTIC_VERSION = r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$"


class _Text(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LicenceText(_Text):
    """Under which terms code and weights may be used."""

    code: Sentence
    weights: Sentence


class InputText(_Text):
    """One `[[inputs]]`."""

    name: Name
    kind: InputKind
    where: dict[str, Any] | None = None
    prefer: tuple[StrictStr, ...] = ()
    count: Count = "best"
    required: StrictBool = True
    on: StrictStr = ""
    pipeline: StrictStr = ""
    version: Annotated[StrictStr, Field(pattern=r"^((>=|==)?\d+(\.\d+){0,2})?$")] = ""
    segment: Coded | Annotated[StrictStr, Field(max_length=0)] = ""
    review: tuple[Verdict, ...] = ()


class StageText(_Text):
    """One `[[stages]]`."""

    name: Name
    lane: Lane
    gpu: GpuUse = "no"
    timeout_s: float = Field(gt=0, le=86_400)
    memory_mb: int = Field(gt=0, le=1_000_000)


class ProducesText(_Text):
    """`[produces]`: the codes of all that the pipeline may find."""

    measurements: tuple[Coded, ...] = ()
    segments: tuple[Coded, ...] = ()
    scores: tuple[Coded, ...] = ()
    notices: tuple[Coded, ...] = ()


class WeightsText(_Text):
    """`[weights]`: a file in the folder, and the digest that names its bytes."""

    file: Sentence
    sha256: Annotated[StrictStr, Field(pattern=r"^[0-9a-f]{64}$")]


class ManifestText(_Text):
    """The whole manifest.toml."""

    name: Name
    version: Annotated[StrictStr, Field(pattern=SEMANTIC_VERSION)]
    title: Sentence
    intended_use: Sentence
    contraindications: Sentence
    standing: Standing
    licence: LicenceText
    runtime: Literal["builtin", "venv", "dicom_node", "container"]
    inputs: tuple[InputText, ...] = Field(min_length=1, max_length=20)
    stages: tuple[StageText, ...] = Field(min_length=1, max_length=20)
    produces: ProducesText
    weights: WeightsText | None = None
