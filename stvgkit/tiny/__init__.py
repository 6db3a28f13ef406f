"""The tiny VLM: a real Qwen3-VL of two million parameters that runs anywhere.

`architecture` and `tokenizer` say what it is. `pretrain` made its shipped `checkpoint`, from the
`pictures` and `texts` that it saw and what `learning` wanted of it.
"""

from pathlib import Path

from stvgkit.errors import need

need("stvgkit.tiny", "train", "torch", "transformers")

CHECKPOINT = Path(__file__).parent / "checkpoint"
