#!/bin/bash
# Two nodes on one machine: benchmarks/two_nodes.sh [folder for the runs]. Needs root, for the network namespaces.
#
# Two namespaces joined by a veth pair stand for two machines: no process in one reaches the other but through that
# cable. torchrun trains the small demo for three steps (gloo, one process a node), and one process trains it on the
# whole batch. The exit status is 0 if the weights are the same to 2e-5 plus 0.1 %, but for what the context decoder's
# dropout touches, which each rank draws for itself.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-$(mktemp -d)}
export OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES= HF_HUB_OFFLINE=1 PYTHONPATH=$PWD/src${PYTHONPATH:+:$PYTHONPATH}

small=(fit --config configs/demo.yaml --trainer.accelerator cpu --trainer.max_steps 3 --trainer.limit_val_batches 0
    --trainer.enable_progress_bar false --trainer.enable_model_summary false --data.crop '[64, 128]' --data.workers 0
    --data.sources.game.limit 8 --model.segmenter.backbone tinyclip --model.segmenter.head pyramid
    --model.ppar.order otp --model.optimizer torch.optim.SGD --model.optimizer.lr 0.05 --model.warmup_steps 0)
# with OTP as the only anchor dropout touches nothing that the segmenter learns from; Adam would blow rounding up

nodes=(ppar$$a ppar$$b)
trap 'for node in "${nodes[@]}"; do ip netns delete "$node" 2> /dev/null || true; done' EXIT  # and with them the cable
for node in "${nodes[@]}"; do ip netns add "$node"; done
ip -n "${nodes[0]}" link add ppar0 type veth peer name ppar0 netns "${nodes[1]}"
for rank in 0 1; do
    ip -n "${nodes[rank]}" address add "10.77.0.$((rank + 1))/24" dev ppar0
    ip -n "${nodes[rank]}" link set ppar0 up
    ip -n "${nodes[rank]}" link set lo up
done

python -m ppar_lightning "${small[@]}" --data.batch_size 4 --trainer.default_root_dir "$folder/one"

ranks=()
for rank in 0 1; do
    GLOO_SOCKET_IFNAME=ppar0 ip netns exec "${nodes[rank]}" torchrun --nnodes 2 --node_rank "$rank" --nproc_per_node 1 \
        --master_addr 10.77.0.1 --master_port 29400 -m ppar_lightning "${small[@]}" --data.batch_size 2 \
        --trainer.strategy ddp --trainer.num_nodes 2 --trainer.devices 1 --trainer.default_root_dir "$folder/two" &
    ranks+=($!)
done
for each in "${ranks[@]}"; do wait "$each"; done

python - "$folder" << 'EOF'
import sys

import torch

one, two = (torch.load(f"{sys.argv[1]}/{name}/checkpoints/last.ckpt")["state_dict"] for name in ("one", "two"))
assert set(one) == set(two)
drawn = tuple(f"objective.prototypes.{part}" for part in ("decoder", "gamma", "bank"))
compared = [name for name in one if not name.startswith(drawn)]
for name in compared:
    torch.testing.assert_close(two[name], one[name], atol=2e-5, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}")
apart = max(float((two[name].double() - one[name].double()).abs().max()) for name in compared)
print(f"two nodes: {len(compared)} of {len(one)} tensors compared, at most {apart:.1e} from those of one process")
EOF
