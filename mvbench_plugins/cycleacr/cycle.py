"""Cycle modelling of actor and context (sections 3.2 and 3.3), and the interaction of people across time (3.4)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from .interaction import InteractionBlock


class PersonFeatures(NamedTuple):
    """What is known of the people of a batch before they interact; ``n`` runs over all clips.

    Attributes:
        clip: ``[n]``, which clip a person is in, ascending.
        local: RoI features ``[n, bins, C]``, bins in raster order.
        pooled: their maximum ``[n, C]``.
        context: maximum over the frame, for each moment of each clip ``[B, T, C]``.
    """

    clip: Tensor
    local: Tensor
    pooled: Tensor
    context: Tensor


class CycleModeling(BaseModule):
    """Actor-to-context reorganisation (A2C-R), then context-to-actor enhancement (C2A-E).

    Args:
        in_channels: width C of the backbone.
        dim: inner width D.
        depth: blocks of each relation.
        num_frames: moments T of the context.
        dropout: probability.
    """

    def __init__(self, in_channels: int, dim: int, depth: int, num_frames: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.actor_reduce = nn.Linear(in_channels, dim)
        self.context_reduce = nn.Linear(in_channels, dim)
        self.local_reduce = nn.Linear(in_channels, dim)
        self.dropout = nn.Dropout(dropout)
        self.local_a2c_blocks = ModuleList(InteractionBlock(dim, dropout=dropout) for _ in range(depth))
        self.local_c2a_blocks = ModuleList(InteractionBlock(dim, dropout=dropout) for _ in range(depth))
        self.global_a2c_blocks = ModuleList(InteractionBlock(dim, dropout=dropout) for _ in range(depth))
        self.local_temporal_position = nn.Parameter(torch.zeros(num_frames, dim))
        self.fuse = nn.Linear(2 * dim, dim)

    def init_weights(self) -> None:
        """Small projections; every block starts as the identity."""
        super().init_weights()
        for linear in (self.actor_reduce, self.context_reduce, self.local_reduce, self.fuse):
            nn.init.normal_(linear.weight, std=0.01)
            nn.init.zeros_(linear.bias)

    def forward(self, people: PersonFeatures) -> Tensor:
        """Features of the actors within their context, ``[n, D]``: what the memory bank holds."""
        actor = self.dropout(self.actor_reduce(people.pooled))[:, None]  # [n, 1, D]
        context = self.dropout(self.context_reduce(people.context)[people.clip])  # [n, T, D]
        local = self.dropout(self.local_reduce(people.local))  # [n, bins, D]
        whole = context.mean(1, keepdim=True)  # before any reorganisation

        surroundings = torch.cat([actor, local], dim=1)
        for block in self.local_a2c_blocks:
            context = block(context, surroundings)
        moments = context + self.local_temporal_position
        for block in self.local_c2a_blocks:
            actor = block(actor, moments)
        surroundings = torch.cat([actor, local], dim=1)
        for block in self.global_a2c_blocks:
            whole = block(whole, surroundings)
        return self.fuse(torch.cat([actor, whole], dim=-1)[:, 0])


class InstanceInteraction(BaseModule):
    """People look at each other, then at the memory, a few times.

    Args:
        dim: width D of the actor features.
        out_dim: width of the result.
        depth: rounds.
        num_seconds: seconds of the memory.
        max_persons: people of a clip that are looked at, the first ones in the order given.
        dropout: probability.
    """

    def __init__(
        self, dim: int, out_dim: int, depth: int, num_seconds: int = 61, max_persons: int = 20, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.max_persons = max_persons
        self.person_blocks = ModuleList(InteractionBlock(dim, dropout=dropout) for _ in range(depth))
        self.memory_blocks = ModuleList(
            InteractionBlock(dim, out_dim if i == depth - 1 else dim, dropout, num_slots=num_seconds)
            for i in range(depth)
        )

    def forward(self, actors: Tensor, clip: Tensor, memory: Tensor) -> Tensor:
        """Let everyone look around.

        Args:
            actors: ``[n, D]``.
            clip: ``[n]``, which clip each is in, ascending.
            memory: ``[B, seconds * people per second, D]``.

        Returns:
            ``[n, out_dim]``.
        """
        first = torch.searchsorted(clip, torch.arange(len(memory), device=clip.device))
        position = torch.arange(len(clip), device=clip.device) - first[clip]
        rows = (position < self.max_persons).nonzero().flatten()  # once: a GPU has to be waited for
        seats = (clip[rows], position[rows])
        place = (clip, position, int(position.max()) + 1 if len(position) else 0)
        x = actors[:, None]  # [n, 1, D]
        for person_block, memory_block in zip(self.person_blocks, self.memory_blocks, strict=True):
            persons = x.new_zeros(len(memory), self.max_persons, x.shape[-1])
            persons[seats] = x[rows, 0]
            x = person_block(x, persons, place)
            x = memory_block(x, memory, place)
        return x[:, 0]
