"""JPEG on the device, and the real codecs (JPEG, JPEG 2000) on the host.

The device form follows libjpeg step by step in integers, from the fixed-point colour transform to the triangle filter
of the chroma upsampling. Only the entropy coding, which is lossless, is left out.
Legend: R block row, C block column, u v frequencies, y x pixels of a block.
"""

import io

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxiqa.distortions.eight_bits import to_uint8

# ITU-T T.81, tables K.1 and K.2.
_LUMA_TABLE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
_CHROMA_TABLE = np.full((8, 8), 99)
_CHROMA_TABLE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

# sqrt(8) times the orthonormal DCT in libjpeg's 13-bit constants; some of their sums differ by one from the nearest
# integer. Rows are frequencies. The right half mirrors the left half (even rows) or its negative (odd rows).
_DCT_LEFT = np.array(
    [
        [8192, 8192, 8192, 8192],
        [11363, 9633, 6437, 2260],
        [10703, 4433, -4433, -10703],
        [9633, -2259, -11362, -6436],
        [8192, -8192, -8192, 8192],
        [6437, -11362, 2261, 9633],
        [4433, -10704, 10704, -4433],
        [2260, -6436, 9633, -11363],
    ]
)
_DCT_RIGHT = _DCT_LEFT[:, ::-1] * np.array([1, -1] * 4)[:, None]
_DCT = (np.concatenate([_DCT_LEFT, _DCT_RIGHT], axis=1) / 8192).astype(np.float32)


def jpeg(image_HWC, quality):
    """Encode and decode JPEG with 4:2:0 chroma as libjpeg does (accurate integer DCT, fancy upsampling).

    float32 (H, W, 3) in 0..1, in and out, in steps of 1/255; any size; quality 1..100.
    Source: KADID-10k data-set code, type 10; ITU-T T.81; libjpeg.
    """
    height, width, _ = image_HWC.shape
    luma_HW, blue_HW, red_HW = _to_ycc(to_uint8(image_HWC).astype(jnp.int32))
    luma_HW = _through_dct(luma_HW, _LUMA_TABLE, quality)

    def chroma(plane_HW):
        small = _through_dct(_downsample(plane_HW), _CHROMA_TABLE, quality)[:, : (width + 1) // 2]
        return _upsample(small)[:height, :width]

    return _to_rgb(luma_HW, chroma(blue_HW), chroma(red_HW)).astype(jnp.float32) / 255


def jpeg_codec(image_HWC, quality):
    """Encode and decode with Pillow's JPEG, 4:2:0. uint8 (H, W, 3) in and out."""
    return _through_file(image_HWC, format="JPEG", quality=int(quality), subsampling="4:2:0")


def jpeg2000_codec(image_HWC, ratio):
    """Encode and decode with Pillow's JPEG 2000 at a compression ratio (raw size / file size).

    uint8 (H, W, 3) in and out. Source: KADID-10k data-set code, type 9.
    """
    # irreversible: the 9/7 wavelet of lossy coding; Pillow's default is the reversible 5/3 wavelet.
    return _through_file(image_HWC, format="JPEG2000", quality_mode="rates", quality_layers=[ratio], irreversible=True)


def _through_file(image_HWC, **options):
    file = io.BytesIO()
    Image.fromarray(image_HWC).save(file, **options)
    with Image.open(file) as decoded:
        return np.array(decoded)


def _to_ycc(rgb_HWC):
    red, green, blue = rgb_HWC[..., 0], rgb_HWC[..., 1], rgb_HWC[..., 2]
    half, centre = 1 << 15, (128 << 16) + (1 << 15) - 1
    return (
        (19595 * red + 38470 * green + 7471 * blue + half) >> 16,
        (-11059 * red - 21709 * green + 32768 * blue + centre) >> 16,
        (32768 * red - 27439 * green - 5329 * blue + centre) >> 16,
    )


def _to_rgb(luma, blue, red):
    blue, red, half = blue - 128, red - 128, 1 << 15
    channels = (
        luma + ((91881 * red + half) >> 16),
        luma + ((-22554 * blue - 46802 * red + half) >> 16),
        luma + ((116130 * blue + half) >> 16),
    )
    return jnp.clip(jnp.stack(channels, axis=-1), 0, 255)


def _downsample(plane_HW):
    """Average 2 x 2 pixels, rounded down and up in turn along a row; columns are padded to whole blocks."""
    height, width = plane_HW.shape
    plane_HW = jnp.pad(plane_HW, ((0, height % 2), (0, -width % 16)), mode="edge")
    total = plane_HW[::2, ::2] + plane_HW[1::2, ::2] + plane_HW[::2, 1::2] + plane_HW[1::2, 1::2]
    return (total + 1 + (jnp.arange(total.shape[1]) % 2)[None, :]) >> 2


def _upsample(plane_HW):
    """Double both axes; a new pixel is 9/16, 3/16, 3/16 and 1/16 of its four nearest old pixels."""
    height, width = plane_HW.shape
    tall = jnp.pad(plane_HW, ((1, 1), (0, 0)), mode="edge")
    tall = jnp.stack([3 * plane_HW + tall[:-2], 3 * plane_HW + tall[2:]], axis=1).reshape(2 * height, width)
    wide = jnp.pad(tall, ((0, 0), (1, 1)), mode="edge")
    left, right = (3 * tall + wide[:, :-2] + 8) >> 4, (3 * tall + wide[:, 2:] + 7) >> 4
    return jnp.stack([left, right], axis=2).reshape(2 * height, 2 * width)


def _through_dct(plane_HW, table, quality):
    """Apply the 8 x 8 DCT, quantisation and their inverse with libjpeg's intermediate rounding; int32, 0..255."""
    height, width = plane_HW.shape
    padded = jnp.pad(plane_HW, ((0, -height % 8), (0, -width % 8)), mode="edge")
    block_RyCx = padded.reshape(padded.shape[0] // 8, 8, -1, 8).astype(jnp.float32) - 128
    quality = quality.astype(jnp.int32)
    percent = jnp.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    step_uv = jnp.clip((percent * table + 50) // 100, 1, 255).astype(jnp.float32)
    step_1u1v = step_uv[None, :, None, :]

    # Two extra bits are kept between the passes. The result is 8 times the orthonormal DCT.
    block_RyCv = _round(4 * _product("rycx,vx->rycv", block_RyCx, _DCT))
    block_RuCv = _round(_product("uy,rycv->rucv", _DCT, block_RyCv) / 4)
    # Ties round away from zero. Adding 0.5 keeps values off the rounding edge, which an inexact division could cross.
    index_RuCv = jnp.sign(block_RuCv) * _round((jnp.abs(block_RuCv) + 0.5) / (8 * step_1u1v))
    block_RuCv = index_RuCv * step_1u1v
    block_RyCv = _round(4 * _product("uy,rucv->rycv", _DCT, block_RuCv))
    block_RyCx = _round(_product("vx,rycv->rycx", _DCT, block_RyCv) / 32)
    return jnp.clip(block_RyCx + 128, 0, 255).astype(jnp.int32).reshape(padded.shape)[:height, :width]


def _product(subscripts, left, right):
    return jnp.einsum(subscripts, left, right, precision=jax.lax.Precision.HIGHEST)


def _round(values):
    return jnp.floor(values + 0.5)
