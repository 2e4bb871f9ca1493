#!/usr/bin/env bash
# A run on all hosts of a Cloud TPU slice; run it on your own machine, with gcloud set up.
#   NAME=my-slice ZONE=us-east5-b bash launch/tpu_vm.sh install     the checkout and .venv onto every host
#   NAME=my-slice ZONE=us-east5-b bash launch/tpu_vm.sh \
#       --config configs/glintiqa_kadid10k.py --workdir gs://BUCKET/kadid --config.dataset.data_dir=/mnt/data/kadid10k
# Every host needs Python 3.11 or later; where its python3 is older, install one there and give PYTHON=/path/to/it to
# `install`. The workdir is a bucket; the data are files that every host has: a disk attached to all, or a bucket mounted
# there with gcsfuse. The same command again resumes from the last checkpoint.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
: "${NAME:?name of the TPU}" "${ZONE:?its zone}"
everywhere() { gcloud compute tpus tpu-vm ssh "$NAME" --zone "$ZONE" --worker=all --command="$1"; }
if [ "${1:-}" = install ]; then
  tar --exclude=.venv --exclude=workdir --exclude=.git -czf /tmp/jaxiqa.tar.gz .
  gcloud compute tpus tpu-vm scp /tmp/jaxiqa.tar.gz "$NAME:/tmp/" --zone "$ZONE" --worker=all
  everywhere "mkdir -p ~/jaxiqa && cd ~/jaxiqa && tar xzf /tmp/jaxiqa.tar.gz &&
    PYTHON=$(printf %q "${PYTHON:-python3}") bash -ec '. launch/setup.sh tpu'"
else
  everywhere "cd ~/jaxiqa && .venv/bin/python -m jaxiqa.train --multihost $(printf '%q ' "$@")"
fi
