"""How one stage is trained, from top to bottom."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed
from trl import SFTConfig
from tunegate_api.contract import Outcome, StagePlan, Subject, TrainingParameters
from tunegate_api.verdict import StopAction

from tunegate_trainer.context import Context
from tunegate_trainer.errors import UserError
from tunegate_trainer.evaluate.evaluate import BaselineCache, Weights, evaluate
from tunegate_trainer.evaluate.sets import EvaluationSet, check_split, golden_sets, task_metrics
from tunegate_trainer.interruption import Interruption
from tunegate_trainer.model import (
    base_folder,
    baseline_cache,
    choose_device,
    hub_name,
    load_base,
    load_tokenizer,
    manifest_of,
)
from tunegate_trainer.rows import read_rows
from tunegate_trainer.train.callback import StageCallback
from tunegate_trainer.train.checkpoints import CheckpointFolder
from tunegate_trainer.train.examples import training_dataset
from tunegate_trainer.train.losses import LossFile
from tunegate_trainer.train.progress import ProgressReporter
from tunegate_trainer.train.record import StageRecord
from tunegate_trainer.train.trainer import CompletionTrainer
from tunegate_trainer.train.writer import Writer
