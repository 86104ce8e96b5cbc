# The official config cuts RoIs at stride 16 out of maps of stride 32; no result was published with it. Here: 32.
_base_ = './cycleacr.py'

model = dict(
    backbone=dict(
        type='SwinTransformer3D',
        arch='base',
        patch_size=(2, 4, 4),
        window_size=(8, 7, 7),
        mlp_ratio=4.0,
        qkv_bias=True,
        drop_path_rate=0.2,
        patch_norm=True,
        out_indices=(3,),
        pretrained2d=False,
        pretrained='checkpoints/swin_base_patch244_window877_kinetics600_22k.pth',
        with_cp=True,
    ),
    head=dict(
        in_channels=1024,
        num_frames=16,
        depth=2,
        instance_depth=2,
        featmap_stride=32,
        loss=dict(
            type='GroupedFocalLoss',
            groups=[('pose', 14, 1.2), ('object_interaction', 49, 49.0), ('person_interaction', 17, 17.0)],
        ),
    ),
    train_cfg=dict(max_persons=10),
    test_cfg=dict(extend=(0.0, 0.0)),
)
