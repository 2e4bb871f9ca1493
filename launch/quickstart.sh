#!/usr/bin/env bash
# From a fresh clone to a trained model: creates .venv, installs, trains GlintIQA (test variant) on the embedded images.
#   bash launch/quickstart.sh [more options of python -m jaxiqa.train]
# It needs Python 3.11 or later and pip. Run it again to resume. The results are in workdir/quickstart.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" ""
# Each step allocates its memory anew. With huge pages the kernel has less to do; glibc before 2.35 ignores this.
export GLIBC_TUNABLES="${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}"
echo "== training on the embedded dataset 'sample' (its labels are transferred from KADID-10k; nobody rated these images)"
.venv/bin/python -m jaxiqa.train --config configs/glintiqa_sample.py --workdir workdir/quickstart "$@"
echo "== results in workdir/quickstart: loss_curve.png scatter_test.png contact_sheet_test.png predictions_test.csv report.json"
