#!/usr/bin/env bash
# A run on all hosts of a Cloud TPU slice. Start it on your own machine, with gcloud set up.
#   NAME=my-slice ZONE=us-east5-b bash launch/tpu_vm.sh install     copies the checkout to every host and creates .venv
#   NAME=my-slice ZONE=us-east5-b bash launch/tpu_vm.sh \
#       --config configs/glintiqa_kadid10k.py --workdir gs://BUCKET/kadid --config.dataset.data_dir=/mnt/data/kadid10k
# Every host needs Python 3.11 or later. If its python3 is older, install a newer one there and set PYTHON=/path/to/it
# for `install`. The workdir is a bucket. The data are files on every host: on a disk attached to all hosts, or in a
# bucket mounted with gcsfuse. The same command again resumes from the last checkpoint.
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
