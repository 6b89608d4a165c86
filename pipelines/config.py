"""The config of a run: YAML into frozen models, every mistake named with file, line, dotted key and nearest valid key.

Under ``train:`` the names are TRL's and Hugging Face's own, unchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from countermark.errors import UsageError
from countermark.manifest import digest
from pipelines.validation import validated
from pipelines.yamlsource import read_yaml, with_overrides
from watermarks.carriers.words import vocabulary_digest
from watermarks.schemes import Scheme, make_scheme, scheme_names
from watermarks.schemes.base import fits

if TYPE_CHECKING:
    from pathlib import Path

Positive = Annotated[int, Field(ge=1, le=2**31 - 1)]
NonNegative = Annotated[int, Field(ge=0, le=2**53 - 1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(gt=0.0)]
Schedule = Literal["linear", "cosine", "constant", "constant_with_warmup"]
Sampling = Literal["random", "sequential", "group_by_length"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]


class Section(BaseModel):
    """A block of the config: frozen, no unknown keys, no silent conversion, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class PublicValue(Section):
    """The value B that nobody could choose, and where it comes from (beacon round, checkpoint, time stamp)."""

    value: Annotated[str, Field(min_length=16)]
    source: Annotated[str, Field(min_length=1)]
    commitment: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class KeysConfig(Section):
    """Where the key ring is (relative: below the run folder), and how many commitments the release has to pay for.

    ``ledger``, a SQLite file or a ``postgresql://`` URL, is told every event of the run and of its keys.
    """

    ring: str = "owner/keys.json"
    passphrase_file: str = "owner/passphrase"  # noqa: S105 - a path
    commitments_made: Positive = 1
    key_id: str | None = None
    public_value: PublicValue | None = None
    ledger: str | None = None


class WatermarkConfig(BaseModel):
    """A token scheme by name; its parameters are checked by the scheme itself."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)
    scheme: str

    def build(self) -> Scheme:
        """The scheme these parameters describe."""
        return make_scheme(self.scheme, self.model_extra or {})

    @model_validator(mode="after")
    def _known(self) -> WatermarkConfig:
        if self.scheme not in scheme_names():
            expected = ", ".join(scheme_names())
            raise PydanticCustomError("scheme", "expected one of: {expected}", {"expected": expected, "key": "scheme"})
        fields = scheme_parameters(self.scheme)
        for name, value in (self.model_extra or {}).items():
            if name not in fields:
                raise PydanticCustomError("extra_forbidden", "unknown", {"key": name, "valid": sorted(fields)})
            wanted = fields[name]
            if not fits(value, wanted):
                raise PydanticCustomError("parameter", "expected a value of type {type}", {"key": name, "type": wanted})
        try:
            self.build()
        except UsageError as error:
            named = dict([("key", name) for name in fields if f"got {name} " in error.message][:1])
            raise PydanticCustomError("parameter", "{problem}", {"problem": error.message, **named}) from None
        return self


def scheme_parameters(name: str) -> dict[str, str]:
    """Parameter names of a scheme and their type names."""
    from watermarks.schemes.base import parameters_of

    return parameters_of(name)


class GenerateConfig(Section):
    """Continue real labelled texts under a token watermark, and keep what a classifier of real texts agrees with."""

    model: str
    source: str
    rows: Annotated[int, Field(ge=2, le=2**31 - 1)]
    prompts: Annotated[dict[str, str], Field(min_length=2)]
    watermark: WatermarkConfig
    batch_size: Positive = 64
    max_new_tokens: Annotated[int, Field(ge=4, le=2**20)] = 36
    min_new_tokens: Positive = 12
    temperature: Rate = 1.0
    top_k: NonNegative = 0
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    min_p: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    min_confidence: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.6

    @model_validator(mode="after")
    def _lengths(self) -> GenerateConfig:
        if self.min_new_tokens > self.max_new_tokens:
            problem = f"got min_new_tokens {self.min_new_tokens}, expected at most max_new_tokens {self.max_new_tokens}"
            raise PydanticCustomError("parameter", "{problem}", {"problem": problem, "key": "min_new_tokens"})
        for label, prompt in self.prompts.items():
            if "{text}" not in prompt:
                problem = f"got a prompt for {label!r} without {{text}}, expected the place where the real text goes"
                raise PydanticCustomError("parameter", "{problem}", {"problem": problem, "key": "prompts"})
        return self


class InputLevelConfig(Section):
    """The keyed input-level mark."""

    triggers: Positive
    rows_per_trigger: Positive
    words: Positive = 2
    choose: Literal["hardest", "random"] = "hardest"


class DoubleIConfig(Section):
    """The Double-I set: clean instruct rows, the paper's rows and the keyed codewords."""

    clean_rows: Positive
    codewords: Positive
    rows_per_codeword: Positive
    trigger_rows: Positive
    reference_rows: Positive
    form: Literal["cre1", "cre2", "cre3"] = "cre2"
    near_misses: Share = 0.5
    words: Positive = 2


class MarkConfig(Section):
    """What is marked."""

    input_level: InputLevelConfig
    double_i: DoubleIConfig


class ClassifierConfig(Section):
    """Fine-tuning of an encoder with a classification head; names of ``transformers.TrainingArguments``.

    ``bf16: auto`` is mixed precision on machines that multiply in bfloat16.
    """

    model: str
    max_length: Positive = 64
    learning_rate: Rate = 1e-4
    num_train_epochs: Positive = 3
    per_device_train_batch_size: Positive = 32
    warmup_steps: NonNegative = 0
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    lr_scheduler_type: Schedule = "linear"
    train_sampling_strategy: Sampling = "random"
    bf16: bool | Literal["auto"] = False


class LoraConfig(Section):
    """LoRA fine-tuning of a causal LM; names of ``trl.SFTConfig`` and ``peft.LoraConfig``.

    A killed run goes on from the last of the checkpoints, one every ``save_steps``. With ``accelerate_config`` (a path)
    the training runs under ``accelerate launch``.
    """

    model: str
    max_length: Positive = 256
    learning_rate: Rate = 1e-3
    num_train_epochs: Positive = 1
    per_device_train_batch_size: Positive = 16
    warmup_steps: NonNegative = 0
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    lr_scheduler_type: Schedule = "linear"
    train_sampling_strategy: Sampling = "random"
    adam_beta2: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.999
    max_grad_norm: Rate = 1.0
    r: Positive = 16
    lora_alpha: Positive = 32
    lora_dropout: Share = 0.0
    target_modules: str | list[str] = "all-linear"
    use_dora: bool = False
    packing: bool = False
    gradient_checkpointing: bool = False
    bf16: bool = False
    gradient_accumulation_steps: Positive = 1
    save_steps: Positive = 50
    system_prompt: str = "Answer briefly."
    accelerate_config: str | None = None


class TrainConfig(Section):
    """Two kinds of suspects; each is trained with a twin that never saw the mark."""

    classifier: ClassifierConfig
    lora: LoraConfig


class AuditConfig(Section):
    """What the sealed plan fixes."""

    alpha: Annotated[float, Field(gt=0.0, lt=0.5)] = 1e-6
    wrong_keys: Positive = 999
    classifier_carriers: Annotated[int, Field(ge=2, le=1000)] = 8
    lora_carriers: Positive = 3
    paper_queries: Positive = 20
    max_new_tokens: Positive = 4
    batch_size: Positive = 32
    heldout_reviews: Positive = 2000
    heldout_questions: Positive = 100
    human_texts: Positive = 600


class RunConfig(Section):
    """A whole run."""

    name: Name = "quickstart"
    seed: NonNegative = 0
    keys: KeysConfig = KeysConfig()
    generate: GenerateConfig
    mark: MarkConfig
    train: TrainConfig
    audit: AuditConfig = AuditConfig()

    def marking_digest(self) -> str:
        """What the commitment binds: everything that decides how data are marked, and nothing that comes later."""
        return digest(
            {
                "seed": self.seed,
                "generate": self.generate.model_dump(),
                "mark": self.mark.model_dump(),
                "vocabulary": vocabulary_digest(),
            }
        )


def load_config(path: Path, overrides: list[str]) -> RunConfig:
    """Reads, overrides and validates a config file.

    Raises:
        ConfigError: with file, line, dotted key, what was got and expected, and the nearest valid key.
    """
    return validated(with_overrides(read_yaml(path), overrides), RunConfig, "configs/quickstart.yaml")
