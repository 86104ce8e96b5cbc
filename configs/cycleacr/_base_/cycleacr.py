# What all configs share: preprocessing, memory of 61 seconds, boxes shrunk at test.
custom_imports = dict(imports=['mvbench_plugins.cycleacr'], allow_failed_imports=False)

model = dict(
    type='CycleACR',
    data_preprocessor=dict(
        type='ClipDataPreprocessor',
        mean=[122.7717, 115.9465, 102.9801],
        std=[57.375] * 3,
        pad_size_divisor=16,
    ),
    head=dict(
        type='CycleACRHead',
        num_classes=80,
        dim=1024,
        max_persons=20,
        hidden_dim=1024,
        featmap_stride=16,
        roi_size=7,
        dropout=0.2,
    ),
    memory=dict(before=30, after=30, max_per_second=5),
    test_cfg=dict(extend=(-0.05, -0.1)),
)
