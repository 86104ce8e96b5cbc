# MOSE, resized in advance to a shorter side of 480.
_base_ = './clips.py'

train_dataloader = dict(
    dataset=dict(
        type='MOSEDataset', data_root='data/MOSE', split='train_480p', min_frames=4, pipeline={{_base_.train_pipeline}}
    )
)
