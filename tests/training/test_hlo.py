"""Collectives and memory traffic of a program's text: counts and bytes, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxiqa.training import sharding
from jaxiqa.training.hlo import Collective, collectives, memory_traffic

# In the forms in which XLA's compilers for TPU and CPU write them.
PROGRAM = """\
HloModule jit_step, is_scheduled=true, num_partitions=8

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}

%wrapped (p: bf16[64,128]) -> bf16[8,128] {
  ROOT %reduce-scatter.1 = bf16[8,128]{1,0:T(8,128)(2,1)} reduce-scatter(%p), channel_id=7, replica_groups=[1,8]<=[8], \
dimensions={0}, to_apply=%add
}

%body (state: (s32[], f32[100])) -> (s32[], f32[100]) {
  %all-reduce.7 = f32[100]{0:T(128)S(1)} all-reduce(%x), channel_id=3, replica_groups={{0,1,2,3},{4,5,6,7}}, \
to_apply=%add
}

%condition (state: (s32[], f32[100])) -> pred[] {
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

%never (p: f32[9]) -> f32[9] {
  ROOT %all-reduce.9 = f32[9]{0} all-reduce(%p), replica_groups={}, to_apply=%add
}

ENTRY %main_spmd (p: f32[256,64]) -> f32[256,64] {
  %all-reduce.1 = f32[256,64]{1,0:T(8,128)} all-reduce(%p), channel_id=1, replica_groups=mesh['a'=2,'b'=4,'c'=1] \
{'a','b'}, use_global_device_ids=true, to_apply=%add, metadata={op_name="jit(step)/reduce_sum"}
  %all-reduce.2 = (f32[], bf16[3,5]{1,0:T(8,128)(2,1)}, /*index=2*/pred[4]{0}) all-reduce(%q, %r, %s), channel_id=2, \
replica_groups=mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'a'}, to_apply=%add
  %sliced = f32[9]{0} fusion(%all-reduce.1), kind=kLoop, calls=%none
  %loop = (s32[], f32[100]) while(%init), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"5"},"flag_configs":[]}
  %all-gather-start.1 = (f32[32,8]{1,0}, f32[128,8]{1,0}) all-gather-start(%shard), channel_id=4, \
replica_groups=[2,4]<=[8], dimensions={0}
  %all-gather-done.1 = f32[128,8]{1,0} all-gather-done(%all-gather-start.1)
  %all-gather.2 = f32[128,8]{1,0} all-gather(%shard), channel_id=5, replica_groups=[2,4]<=[2,4]T(1,0), dimensions={0}
  %scatter = ((bf16[64,128]), bf16[8,128], u32[]) async-start(%p2), calls=%wrapped
  %collective-permute-start = (s8[1000]{0}, s8[1000]{0}, u32[], u32[]) collective-permute-start(%halo), channel_id=6, \
source_target_pairs={{0,1},{1,2}}
  %all-to-all.1 = s4[16,2]{1,0} all-to-all(%t), channel_id=8, replica_groups=mesh['a'=8] {'a':(2)4}, dimensions={0}
  %alone = f32[7]{0} all-reduce(%u), channel_id=9, replica_groups={{0},{1},{2},{3},{4},{5},{6},{7}}, to_apply=%add
}
"""


def test_kinds_groups_counts_and_bytes():
    found = collectives(PROGRAM, 8)
    assert found == [
        Collective("all-reduce", 8, 1, 65536, 114688.0),  # 2 * 7/8 of 256 * 64 * 4
        Collective("reduce-scatter", 8, 1, 16384, 14336.0),  # in one computation that is called once
        Collective("all-gather", 4, 2, 8192, 6144.0),  # begun and at once
        Collective("all-reduce", 4, 6, 2038, 3057.0),  # 5 times 400 in a loop, and 4 + 30 + 4
        Collective("collective-permute", 8, 1, 1004, 1004.0),
        Collective("all-to-all", 4, 1, 16, 12.0),
    ]


TRAFFIC = """\
HloModule jit_step, is_scheduled=true

%fused (p: f32[1000]) -> f32[1000] {
  %p = f32[1000]{0:T(1024)} parameter(0)
  ROOT %twice = f32[1000]{0:T(1024)} add(%p, %p)
}

%body (state: (s32[], f32[10])) -> (s32[], f32[10]) {
  %state = (s32[], f32[10]{0}) parameter(0)
  %x = f32[10]{0} get-tuple-element(%state), index=1
  %y = f32[10]{0} negate(%x)
}

ENTRY %main (p: f32[1000], q: bf16[500,2]) -> f32[1000] {
  %p = f32[1000]{0:T(1024)} parameter(0)
  %q = bf16[500,2]{1,0:T(8,128)(2,1)} parameter(1)
  %copy-start = (f32[1000]{0:T(1024)S(1)}, f32[1000]{0:T(1024)}, u32[]{:S(2)}) copy-start(%p)
  %copy-done = f32[1000]{0:T(1024)S(1)} copy-done(%copy-start)
  %slice-start = ((bf16[500,2]{1,0:T(8,128)(2,1)}), bf16[5,2]{1,0:T(8,128)(2,1)S(1)}, u32[]{:S(2)}) slice-start(%q)
  %slice-done = bf16[5,2]{1,0:T(8,128)(2,1)S(1)} slice-done(%slice-start)
  %fusion = f32[1000]{0:T(1024)S(1)} fusion(%copy-done), kind=kLoop, calls=%fused, metadata={op_name="f(%p)"}
  %product = f32[1000]{0:T(1024)} multiply(%fusion, %p)
  %loop = (s32[], f32[10]{0}) while(%init), condition=%none, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  ROOT %out = f32[1000]{0:T(1024)} bitcast(%product)
}
"""


def test_traffic():
    copied, sliced, product, loop = 4000, 20, 4000 + 4000, 3 * 80
    assert memory_traffic(TRAFFIC) == copied + sliced + product + loop


@pytest.mark.parametrize(("mesh", "group"), [((4, 1), 4), ((1, 4), 4)])
def test_a_program_compiled_here(mesh, group):
    """The gradient of replicated weights over a sharded batch is summed over all devices."""
    mesh = sharding.make_mesh(*mesh)
    step = jax.jit(jax.grad(lambda w, x: jnp.square(x @ w).mean()), out_shardings=sharding.replicated(mesh))
    w = jax.ShapeDtypeStruct((16, 32), np.float32, sharding=sharding.replicated(mesh))
    x = jax.ShapeDtypeStruct((64, 16), np.float32, sharding=sharding.batch_sharding(mesh))
    found = collectives(step.lower(w, x).compile().as_text(), 4)
    assert found == [Collective("all-reduce", group, 1, 2048, 3072.0)]
