# Swin backbones and the official parameter groups for them, to be picked by name.
_url = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/'
_shared = dict(
    _delete_=True,
    type='SwinTransformer',
    depths=[2, 2, 18, 2],
    mlp_ratio=4,
    qkv_bias=True,
    patch_norm=True,
    out_indices=(0, 1, 2, 3),
    convert_weights=True,
)
swin_s = dict(
    **_shared,
    embed_dims=96,
    num_heads=[3, 6, 12, 24],
    window_size=7,
    drop_path_rate=0.3,
    init_cfg=dict(type='Pretrained', checkpoint=_url + 'swin_small_patch4_window7_224.pth'),
)
swin_l = dict(
    **_shared,
    pretrain_img_size=384,
    embed_dims=192,
    num_heads=[6, 12, 24, 48],
    window_size=12,
    drop_path_rate=0.2,
    init_cfg=dict(type='Pretrained', checkpoint=_url + 'swin_large_patch4_window12_384_22k.pth'),
)

# A tenth of the learning rate and no decay for the backbone's norms and relative position biases, no decay for any other
# norm outside of the decoder. The rest of the backbone keeps the full rate.
_slow = dict(lr_mult=0.1, decay_mult=0.0)
swin_paramwise = dict(
    norm_decay_mult=0.0,
    custom_keys={
        'backbone.patch_embed.norm': _slow,
        'backbone.norm': _slow,
        'relative_position_bias_table': _slow,
        **{
            f'backbone.stages.{stage}.blocks.{block}.norm': _slow
            for stage, depth in enumerate(_shared['depths'])
            for block in range(depth)
        },
        **{f'backbone.stages.{stage}.downsample.norm': _slow for stage in range(3)},
    },
)
