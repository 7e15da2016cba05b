#!/usr/bin/env bash
# A recogniser told to use local files only asks the network for its tokenizer: faster-whisper.
#
# Expected: `WhisperModel(folder, local_files_only=True)` uses what is in the folder, and says what
# is missing.
# Seen: where the folder has no tokenizer.json (the converter of CTranslate2 puts none there unless
# `--copy_files tokenizer.json` asks for it), the tokenizer of openai/whisper-tiny is fetched,
# whatever the folder holds. Without a network the model does not load, with one it may get a
# tokenizer that is not its own: that of large-v3 has a language more, so that its marks for tasks
# and times have other numbers.
# What to do: require tokenizer.json (and preprocessor_config.json for the Whispers that hear 128
# bands) before loading; to be sure set HF_HUB_OFFLINE=1 as well.
#
# Seen with faster-whisper 1.2.1, ctranslate2 4.8.5, tokenizers 0.23.3,
# huggingface_hub 2.4.0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    faster-whisper==1.2.1 ctranslate2==4.8.5 tokenizers==0.23.3 huggingface_hub==2.4.0 numpy==2.2.6
cd "$folder"
cat >load.py <<'PY'
"""Load a Whisper of one layer, with random weights, from a folder without a tokenizer."""
import numpy as np
from ctranslate2.specs import WhisperSpec
from faster_whisper import WhisperModel

random = np.random.default_rng(0)
width, bands = 16, 80
marks = ["<|endoftext|>", "<|startoftranscript|>", "<|translate|>", "<|transcribe|>"]
marks += ["<|startoflm|>", "<|startofprev|>", "<|nocaptions|>", "<|notimestamps|>"]
words = [" yes", " no", *marks, *(f"<|{n / 50:.2f}|>" for n in range(1501))]


def fill(layer, **shapes):
    for name, shape in shapes.items():
        setattr(layer, name, random.normal(0, 0.1, shape).astype(np.float32))


def attention(layer, *outs):
    fill(layer.layer_norm, gamma=width, beta=width)
    for part, out in zip(layer.linear, outs):
        fill(part, weight=(out, width), bias=out)


spec = WhisperSpec(1, 1, 1, 1)
fill(spec.encoder.conv1, weight=(width, bands, 3), bias=width)
fill(spec.encoder.conv2, weight=(width, width, 3), bias=width)
for part, positions in ((spec.encoder, 1500), (spec.decoder, 448)):
    fill(part.position_encodings, encodings=(positions, width))
    fill(part.layer_norm, gamma=width, beta=width)
    layer = part.layer[0]
    attention(layer.self_attention, 3 * width, width)
    fill(layer.ffn.layer_norm, gamma=width, beta=width)
    fill(layer.ffn.linear_0, weight=(4 * width, width), bias=4 * width)
    fill(layer.ffn.linear_1, weight=(width, 4 * width), bias=width)
attention(spec.decoder.layer[0].attention, width, 2 * width, width)
fill(spec.decoder.embeddings, weight=(len(words), width))
fill(spec.decoder.projection, weight=(len(words), width), bias=len(words))
spec.config.suppress_ids = spec.config.suppress_ids_begin = spec.config.lang_ids = []
spec.config.alignment_heads = [[0, 0]]
spec.register_vocabulary(words)
spec.validate()
spec.save("model")
try:
    WhisperModel("model", device="cpu", local_files_only=True)
except Exception as error:
    print("not loaded:", type(error).__name__)
PY
venv/bin/python - <<'PY'
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version

for package in ("faster-whisper", "ctranslate2", "tokenizers"):
    print(package, version(package))
os.mkdir("model")
asked = []


class Hub(BaseHTTPRequestHandler):
    def do_GET(self):
        asked.append(self.path)
        self.send_error(404)

    do_HEAD = do_GET

    def log_message(self, *arguments):
        pass


server = HTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
address = f"http://127.0.0.1:{server.server_port}"
proxies = ("http_proxy", "https_proxy", "all_proxy")
environment = {k: v for k, v in os.environ.items() if k.lower() not in proxies}
environment |= {"HF_ENDPOINT": address, "HF_HOME": os.path.abspath("cache")}
environment.pop("HF_HUB_OFFLINE", None)
subprocess.run([sys.executable, "load.py"], env=environment, check=True)
print("in the folder:", ", ".join(sorted(os.listdir("model"))))
print("asked for:", *(path for path in asked if "resolve" in path))
assert any("whisper-tiny" in path and "tokenizer.json" in path for path in asked), "asks no more"
PY
