# DAVIS 2017 five times, YouTube-VOS 2019 once.
_base_ = './clips.py'

train_dataloader = dict(
    dataset=dict(
        type='ConcatDataset',
        datasets=[
            dict(
                type='RepeatDataset',
                times=5,
                dataset=dict(
                    type='DAVISDataset',
                    data_root='data/DAVIS/2017/trainval',
                    split='train',
                    min_frames=4,
                    pipeline={{_base_.train_pipeline}},
                ),
            ),
            dict(
                type='YouTubeVOSDataset',
                data_root='data/YouTubeVOS/2019',
                split='train_480p',
                min_frames=4,
                pipeline={{_base_.sparse_pipeline}},
            ),
        ],
    )
)
