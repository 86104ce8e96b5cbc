_base_ = './decoder_layer.py'

model = dict(
    roi_head=dict(
        type='DEQDetRoIHead',
        bbox_head={{_base_.decoder_layer}},
        refinement_steps=20,
        rag=2,
        extra_supervisions_on_init_head=2,
        supervision_position=[1, 3, 6, 9, 12, 20],
        perturb_content_prob=0.2,
        perturb_position_prob=0.2,
        perturb_content_intensity=0.1,
        perturb_position_intensity=25.0,
    )
)
