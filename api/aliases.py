"""Aliases: names that stand for configurations."""

from fastapi import APIRouter

router = APIRouter()
