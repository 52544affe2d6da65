"""Traces and files of prompts."""

from fastapi import APIRouter

router = APIRouter()
