# VISOR.
_base_ = './clips.py'

train_dataloader = dict(
    dataset=dict(
        type='VISORDataset', data_root='data/VISOR', split='train', min_frames=4, pipeline={{_base_.train_pipeline}}
    )
)
